package cli

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// howTo is the text whose commands this file runs.
const howTo = "../../docs/backup.md"

// howToBlocks returns the blocks of the text that a person types, in order.
func howToBlocks(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile(howTo)
	if err != nil {
		t.Fatal(err)
	}
	var blocks []string
	for _, found := range regexp.MustCompile("(?ms)^```console\n(.*?)^```").FindAllStringSubmatch(string(text), -1) {
		blocks = append(blocks, found[1])
	}
	if len(blocks) != 4 {
		t.Fatalf("%s has %d blocks", howTo, len(blocks))
	}
	return blocks
}

// typeIn types a block of the text in a directory and expects the lines below each command; … stands for anything.
func typeIn(t *testing.T, block, dir string, env ...string) {
	t.Helper()
	for _, step := range strings.Split("\n"+block, "\n$ ")[1:] {
		command, want, _ := strings.Cut(step, "\n")
		cmd := exec.CommandContext(t.Context(), "sh", "-c", command)
		cmd.Dir, cmd.Env, cmd.Stderr = dir, append(os.Environ(), env...), t.Output()
		out, err := cmd.Output()
		pattern := strings.ReplaceAll(regexp.QuoteMeta(strings.TrimSpace(want)), "…", ".*")
		if err != nil || !regexp.MustCompile("^(?s:"+pattern+")$").MatchString(strings.TrimSpace(string(out))) {
			t.Fatalf("%s\nprints %q, %v; want %q", command, out, err, want)
		}
	}
}

// TestTheHowToWorksAsWritten does what the text says about one machine. What it says about three is done by TestABackupMovesBetweenOneServerAndThree.
func TestTheHowToWorksAsWritten(t *testing.T) {
	t.Parallel()
	blocks, dir := howToBlocks(t), t.TempDir()
	home := "XDG_DATA_HOME=" + filepath.Join(dir, "share")
	d := &drill{t: t, data: filepath.Join(dir, "share", "confab")}
	d.up()
	typeIn(t, blocks[0], dir, home)
	d.kill()
	typeIn(t, blocks[1], dir, home)
	d.up()
	typeIn(t, blocks[2], dir, home)
}
