package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/confab-im/confab/edge/web/webtest"
)

// tutorial is the text whose commands this file runs.
const tutorial = "../../docs/write-a-function.md"

// author does what the tutorial says, one command after another, and compares what it shows with what comes.
type author struct {
	*testing.T
	dir, data string
	variables map[string]string // of the shell
	confab    *process          // the one in a terminal of its own
	target    Target
}

// TestTheTutorialWorksAsWritten runs every command behind a $ and expects the lines below it; … stands for anything. Commands in blocks of other kinds need a
// cluster or the network.
func TestTheTutorialWorksAsWritten(t *testing.T) {
	text, err := os.ReadFile(tutorial)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := exec.LookPath("curl"); err != nil {
		t.Fatal("the tutorial calls with curl: install it (apt-get install curl)")
	}
	r := &author{T: t, dir: t.TempDir(), data: filepath.Join(t.TempDir(), "confab"), variables: map[string]string{}}
	blocks := regexp.MustCompile("(?ms)^```(console|js)\n(.*?)^```").FindAllStringSubmatch(string(text), -1)
	if len(blocks) < 7 {
		t.Fatalf("the tutorial has %d blocks", len(blocks))
	}
	for _, block := range blocks {
		if block[1] == "js" {
			r.script(block[2])
			continue
		}
		for _, step := range strings.Split("\n"+block[2], "\n$ ")[1:] {
			command, want, _ := strings.Cut(step, "\n")
			r.step(command, want)
		}
	}
	r.stop()
}

// stop ends the confab in the other terminal.
func (r *author) stop() {
	r.Helper()
	if r.confab == nil {
		return
	}
	if code := r.confab.stop(r); code != 0 {
		r.Errorf("confab up ended with %d", code)
	}
	r.confab = nil
}

// step runs a command.
func (r *author) step(command, want string) {
	r.Helper()
	if dir, ok := strings.CutPrefix(command, "cd "); ok {
		r.dir = filepath.Join(r.dir, dir)
		return
	}
	if strings.Contains(command, "confab up") {
		r.stop() // the reader has, with Ctrl-C
		if strings.Contains(want, "ready") {
			r.up(command)
			return
		}
	}
	if name, _, ok := strings.Cut(command, "=$("); ok { // what it prints is for later commands
		r.variables[name] = strings.TrimSpace(r.run(command+" && printf %s \"$"+name+"\"", ""))
		return
	}
	r.run(command, want)
}

// run runs a command of the shell to its end and returns what it wrote.
func (r *author) run(command, want string) string {
	r.Helper()
	cmd := r.command(strings.ReplaceAll(command, "http://127.0.0.1:8080", r.target.URL))
	out, err := cmd.CombinedOutput()
	if want == "" && err != nil || want != "" && !pattern(want).Match(out) {
		r.Fatalf("%s: %v\n%s\nand the tutorial says\n%s", command, err, out, want)
	}
	return string(out)
}

// command returns a command of the shell. What the tutorial leaves at its default is free on this machine here.
func (r *author) command(command string) *exec.Cmd {
	cmd := exec.Command("bash", "-c", command)
	cmd.Dir = r.dir
	cmd.Env = append(os.Environ(), "PATH="+programs+string(os.PathListSeparator)+os.Getenv("PATH"), "XDG_DATA_HOME="+filepath.Dir(r.data), "GOFLAGS=", "GOPROXY=off")
	for name, value := range r.variables {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	settings := map[string]string{}
	switch {
	case strings.Contains(command, "confab up"):
		settings = map[string]string{"LISTEN": "127.0.0.1:0", "NATS_LISTEN": "127.0.0.1:0", "OPS_LISTEN": "", "DATA": r.data}
	case strings.Contains(command, "confab chat"):
		settings = map[string]string{"URL": r.target.URL}
	}
	for name, value := range settings {
		cmd.Env = append(cmd.Env, "CONFAB_"+name+"="+value)
	}
	return cmd
}

// up starts confab as in a terminal of its own.
func (r *author) up(command string) {
	r.Helper()
	r.confab = launch(r, "confab", r.command(command))
	r.confab.says(r, `^confab is ready\.$`)
	r.target.URL, _, _ = strings.Cut(r.confab.says(r, `Open +(http://\S+)`), "/#")
}

// script runs a script in the console of a browser and waits for the answer that the text below it shows.
func (r *author) script(code string) {
	r.Helper()
	if testing.Short() {
		return // it needs a browser
	}
	code = strings.ReplaceAll(code, `"…"`, fmt.Sprintf("%q", r.variables["token"]))
	code = strings.ReplaceAll(code, "127.0.0.1:8080", strings.TrimPrefix(r.target.URL, "http://"))
	code = strings.ReplaceAll(code, "console.log(message.data)", "shown.push(message.data)")
	tab := webtest.Open(r, webtest.Start(r), r.target.URL)
	webtest.Eval[bool](tab, "globalThis.shown = []; (() => {"+code+"})(); true")
	tab.Until(`shown.join("\n").includes('{"id":2,"ok":{"text":"Hello, browser!"}}')`)
}

// pattern matches a text in which … stands for anything.
func pattern(text string) *regexp.Regexp {
	parts := strings.Split(strings.TrimSpace(text), "…")
	for i := range parts {
		parts[i] = regexp.QuoteMeta(parts[i])
	}
	return regexp.MustCompile(`(?s)^\s*` + strings.Join(parts, ".*") + `\s*$`)
}
