package lab_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/confab-im/confab/deploy/faultlab/check"
	"github.com/confab-im/confab/deploy/faultlab/history"
	"github.com/confab-im/confab/deploy/faultlab/lab"
)

var program string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "faultlab")
	if err == nil {
		program = filepath.Join(dir, "confab")
		var out []byte
		if out, err = exec.Command("go", "build", "-tags", "nomsgpack", "-o", program, "../../cmd/confab").CombinedOutput(); err != nil {
			err = fmt.Errorf("build the program: %w\n%s", err, out)
		}
	}
	code := 1
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	} else {
		code = m.Run()
	}
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// What takes little time is done here, and all of it by confab faultlab. With -short there is less of it, and the faults may miss every message.
func TestNothingIsLostUnderFaults(t *testing.T) {
	runs := []struct {
		topology lab.Topology
		lasts    time.Duration
		faults   []string
		short    []string // instead, with -short; none = no run
	}{
		{lab.One, 10 * time.Second, []string{"kill", "cut", "kill-twice"}, []string{"kill", "cut"}},
		{lab.Processes, 20 * time.Second, []string{"kill-send", "cut", "kill-server", "cut-edge", "kill-edge", "swallow", "roll-edge"}, []string{"kill-send", "cut-edge"}},
		{lab.Cluster, 10 * time.Second, []string{"kill-leader", "cut-route", "cut", "step-down"}, nil},
	}
	for _, r := range runs {
		config := lab.Config{Program: program, Topology: r.topology, Seed: 1, Lasts: r.lasts, Faults: r.faults}
		if testing.Short() {
			config.Lasts, config.Faults = 3*time.Second, r.short
		}
		if len(config.Faults) > 0 {
			t.Run(string(r.topology), func(t *testing.T) { underFaults(t, config) })
		}
	}
}

func underFaults(t *testing.T, config lab.Config) {
	var written, log bytes.Buffer
	config.Data, config.Log = t.TempDir(), &log
	err := lab.Run(t.Context(), config, &written)
	if err != nil {
		t.Fatalf("%v\n%s", err, log.Bytes())
	}
	records, err := history.Read(&written)
	if err != nil {
		t.Fatal(err)
	}
	// Times are figures here, and no promises: the machine may have something else to do.
	bounds := check.Bounds{AllowCalm: testing.Short(), Presence: time.Minute, Heal: time.Minute, Revocation: time.Minute, Settles: time.Minute}
	verdict := check.History(records, bounds)
	figures, _ := json.MarshalIndent(verdict.Figures, "", "  ") // a struct of numbers always encodes
	t.Logf("%s %s", verdict.Result, figures)
	for _, f := range verdict.Findings[:min(20, len(verdict.Findings))] {
		t.Errorf("%s %s %s entry %d at %v: %s", f.Defect, f.Conversation, f.Who, f.Seq, f.At, f.Text)
	}
	if verdict.Result != check.Pass {
		t.Errorf("the verdict is %s: %v", verdict.Result, verdict.Missing)
	}
}
