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

// What takes little time is done here, and all of it by confab faultlab. With -short the faults may miss every message.
func TestNothingIsLostUnderFaults(t *testing.T) {
	var written, log bytes.Buffer
	config := lab.Config{Program: program, Data: t.TempDir(), Seed: 1, Lasts: 10 * time.Second, Faults: []string{"kill", "cut", "kill twice"}, Log: &log}
	if testing.Short() {
		config.Lasts, config.Faults = 3*time.Second, config.Faults[:2]
	}
	err := lab.Run(t.Context(), config, &written)
	if err != nil {
		t.Fatalf("%v\n%s", err, log.Bytes())
	}
	records, err := history.Read(&written)
	if err != nil {
		t.Fatal(err)
	}
	verdict := check.History(records, check.Bounds{AllowCalm: testing.Short()})
	figures, _ := json.MarshalIndent(verdict.Figures, "", "  ") // a struct of numbers always encodes
	t.Logf("%s %s", verdict.Result, figures)
	for _, f := range verdict.Findings[:min(20, len(verdict.Findings))] {
		t.Errorf("%s %s %s entry %d at %v: %s", f.Defect, f.Conversation, f.Who, f.Seq, f.At, f.Text)
	}
	if verdict.Result != check.Pass {
		t.Errorf("the verdict is %s", verdict.Result)
	}
}
