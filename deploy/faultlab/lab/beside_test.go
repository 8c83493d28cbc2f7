package lab_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/confab-im/confab/deploy/faultlab/check"
	"github.com/confab-im/confab/deploy/faultlab/history"
	"github.com/confab-im/confab/deploy/faultlab/lab"
)

// What people do to each other needs no fault: members come and go while they send, sessions end, marks race, messages are sent by several devices at
// once, and who was away with a token that is over comes back to the head.
func TestRacesAreDecidedOnce(t *testing.T) {
	config := lab.Config{Lasts: 6 * time.Second, Beside: []string{"races", "revocations", "marks", "copies", "diary"}, Missed: 400}
	if testing.Short() {
		config.Lasts, config.Beside = 2*time.Second, config.Beside[:4]
	}
	f := besides(t, config)
	if f.Membership.Raced == 0 || f.Membership.Refused == 0 || f.Copied == 0 || f.Marks == 0 || f.Revoked.Count == 0 || f.Missed < 100 && !testing.Short() {
		t.Errorf("there was no race: %+v", f)
	}
}

// What is acknowledged is on the disk, also when the power goes right after it. Without root, or where the kernel mounts no files, no power can be
// cut: then the run must say so and do nothing.
func TestPowerCutsLoseNothing(t *testing.T) {
	if testing.Short() {
		return // nothing in it depends on the race detector
	}
	besides(t, lab.Config{Lasts: 5 * time.Second, Faults: []string{"power-cut"}})
}

// Who floods is refused, who does not read is cut off, and others lose nothing.
func TestWhoMisbehavesIsLimitedAlone(t *testing.T) {
	if testing.Short() {
		return // it takes time and no chance: the race detector has the other runs
	}
	f := besides(t, lab.Config{Lasts: 2 * time.Second, Beside: []string{"swamp"}})
	if f.Abuse.Limited.Count < 2 {
		t.Errorf("nobody misbehaved: %+v", f)
	}
}

// besides runs confab with nothing broken, unless the configuration says otherwise, and with what people do beside chatting, and returns its figures.
func besides(t *testing.T, config lab.Config) check.Figures {
	t.Helper()
	var written, log bytes.Buffer
	config.Program, config.Data, config.Seed, config.Log = program, filepath.Join(t.TempDir(), "data"), 1, &log
	if config.Faults == nil {
		config.Faults = []string{"none"}
	}
	err := lab.Run(t.Context(), config, &written)
	if errors.Is(err, lab.ErrNoDisk) {
		t.Logf("this machine cannot cut the power of a disk: %v", err)
		return check.Figures{}
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, log.Bytes())
	}
	records, err := history.Read(&written)
	if err != nil {
		t.Fatal(err)
	}
	verdict := check.History(records, check.Bounds{AllowCalm: true})
	figures, _ := json.MarshalIndent(verdict.Figures, "", "  ") // a struct of numbers always encodes
	t.Logf("%s %s", verdict.Result, figures)
	for _, f := range verdict.Findings[:min(20, len(verdict.Findings))] {
		t.Errorf("%s %s %s entry %d at %v: %s", f.Defect, f.Conversation, f.Who, f.Seq, f.At, f.Text)
	}
	return verdict.Figures
}
