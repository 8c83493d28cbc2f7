package cli

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/confab-im/confab/deploy/backup"
	"github.com/confab-im/confab/deploy/natsconfig"
	"github.com/confab-im/confab/deploy/process"
	"github.com/confab-im/confab/deploy/standalone"
	"github.com/confab-im/confab/jetstream/jetstreamtest"
	"github.com/confab-im/confab/subjects"
)

// TestABackupMovesBetweenOneServerAndThree restores what one server had on three with users of their own, and what they have on one machine again.
func TestABackupMovesBetweenOneServerAndThree(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	one := jetstreamtest.Start(t)
	store := one.Store(t)
	for _, c := range []subjects.Conversation{"g.a", "g.b"} {
		jetstreamtest.Found(t, store, c)
	}
	done(t, "backup", filepath.Join(dir, "confab.backup"), "--nats-url", one.URL)
	c := startTrio(t)
	for i := range c.running {
		c.start(i)
	}
	urls := strings.Join(c.urls[:], ",")
	typeIn(t, strings.NewReplacer("nats://127.0.0.1:4222", urls, "secrets/", c.dir+"/").Replace(howToBlocks(t)[3]), dir)
	restore := func(more ...string) (string, error) {
		return confab(t, append([]string{"restore", filepath.Join(dir, "another.backup")}, more...)...)
	}
	if _, err := restore("--nats-url", urls, "--nats-nkey", natsconfig.SeedFile(c.dir, natsconfig.Restore)); !errors.Is(err, backup.ErrNotEmpty) {
		t.Errorf("a second time: %v", err)
	}
	data := filepath.Join(dir, "data")
	if out, err := restore("--data", data); err != nil || !strings.HasPrefix(out, "172 entries of 2 conversations, 4 memberships, 4 marks: 0 defects, 0 unfinished") {
		t.Errorf("%v: %q", err, out)
	}
	if _, err := restore("--data", data); !errors.Is(err, standalone.ErrUsed) {
		t.Errorf("into a directory that is used: %v", err)
	}
}

func TestBackupCommandsNameWhatIsWrong(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, args := range [][]string{{"backup"}, {"restore"}, {"restore", "--data", dir}, {"backup", "a", "b"}, {"restore", "x", "--replicas", "3"}, {"verify", "--conversation", "x"}} {
		if _, err := confab(t, args...); process.ExitCode(err) != process.ExitUsage {
			t.Errorf("confab %q: %v", args, err)
		}
	}
	if _, err := confab(t, "restore", filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
	half := filepath.Join(dir, "half")
	if err := os.WriteFile(half, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := confab(t, "restore", half, "--data", filepath.Join(dir, "data")); !errors.Is(err, backup.ErrCutShort) {
		t.Errorf("a file that was cut short: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "data")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it leaves a data directory: %v", err)
	}
}
