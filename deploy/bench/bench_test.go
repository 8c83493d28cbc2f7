package bench_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/confab-im/confab/deploy/bench"
	"github.com/confab-im/confab/deploy/cli"
	"github.com/confab-im/confab/deploy/process"
)

// TestMain makes this program confab where it is started as such: by the scenarios, which start the children that they measure.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && !strings.HasPrefix(os.Args[1], "-") {
		process.Main(cli.Main)
		return
	}
	os.Exit(m.Run())
}

// What must be known of a figure.
const (
	there  = iota // that it was measured: so few sockets may cost no memory that shows, and so short a time no processor time
	above0        // confab's
	beside        // confab's, and the floor's
)

// figures says which figures of a scenario must be there.
var figures = map[string]map[string]int{
	"direct":  {"as fast as it goes": beside, "send → ok, p50 at a quarter": beside, "send → other socket, p50 at a quarter": above0, "processor time of the server, held": there},
	"fan-out": {"8 members: deliveries": beside, "8 members: to everybody, p50": beside, "8 members: processor time of the server": there},
	"idle":    {"resident": there, "resident, little garbage": there, "processor time, with pings": there},
	"storm":   {"connects with token check": beside, "connects with history.heads": beside, "restart of the edge: until all are back and caught up": above0, "restart of everything: until all are back and caught up": above0},
	"history": {"pages": beside, "one page after another, p50": beside, "that is so many times as much": above0},
	"heads":   {"a list of 4, one after another, p50": beside, "lists, 4 at once": beside},
	"scale":   {"16 conversations: processor time of the server": there, "16 conversations: start after a clean stop": beside, "16 conversations: start after kill -9": above0, "8 sockets: processor time of the server": there},
	"mixed":   {"things done": above0, "direct message → ok, p50": beside, "message → others' sockets, p50": above0},
}

func TestEveryScenarioFindsFiguresAndLosesNothing(t *testing.T) {
	for _, name := range bench.Names() {
		t.Run(name, func(t *testing.T) {
			profiled := ""
			if name == "mixed" {
				profiled = filepath.Join(t.TempDir(), "profiles")
			}
			report, err := bench.Run(t.Context(), bench.Config{
				Command: []string{os.Args[0]}, Scenarios: []string{name}, Sync: bench.SyncDefault, Lasts: 150 * time.Millisecond, Rounds: 1, People: 8, Seed: 1, Entries: 600, Conversations: 16,
				Ping: time.Second, Dir: t.TempDir(), Line: "confab bench", Version: "0.0.0", Profile: profiled,
			})
			if err != nil {
				t.Fatal(err)
			}
			if len(report.Scenarios) != 1 || report.Scenarios[0].Name != name || report.Scenarios[0].Lost+report.Scenarios[0].Refused != 0 {
				t.Fatalf("the report is %+v", report)
			}
			if len(figures[name]) == 0 {
				t.Error("this test knows no figures of it")
			}
			for figure, must := range figures[name] {
				i := slices.IndexFunc(report.Scenarios[0].Figures, func(f bench.Figure) bool { return f.Name == figure })
				if i < 0 {
					t.Errorf("there is no figure %q among %+v", figure, report.Scenarios[0].Figures)
					continue
				}
				f := report.Scenarios[0].Figures[i]
				if must >= above0 && f.Confab.Median <= 0 || must == beside && (f.Floor == nil || f.Ratio <= 0) || f.Confab.Min > f.Confab.Max {
					t.Errorf("%s is %+v against %+v", figure, f, f.Floor)
				}
			}
			readable(t, report)
			if profiled != "" {
				profilesIn(t, profiled)
			}
		})
	}
}

// profilesIn checks that a directory has profiles: they are compressed, and more than the head of it.
func profilesIn(t *testing.T, dir string) {
	t.Helper()
	for _, kind := range []string{"cpu", "heap"} {
		files, err := filepath.Glob(filepath.Join(dir, "mixed-01-*."+kind+".pprof"))
		if err != nil || len(files) != 1 {
			t.Fatalf("there are the profiles %q of kind %s, %v", files, kind, err)
		}
		if data, err := os.ReadFile(files[0]); err != nil || len(data) < 100 || data[0] != 0x1f || data[1] != 0x8b {
			t.Errorf("%s has %d bytes, %v", files[0], len(data), err)
		}
	}
}

// readable checks what is written of a report.
func readable(t *testing.T, report bench.Report) {
	t.Helper()
	var text bytes.Buffer
	if err := report.WriteJSON(&text); err != nil {
		t.Fatal(err)
	}
	var again bench.Report
	if err := json.Unmarshal(text.Bytes(), &again); err != nil || len(again.Scenarios) != len(report.Scenarios) {
		t.Errorf("the JSON reads as %+v, %v", again, err)
	}
	text.Reset()
	if err := report.WritePlot(&text); err != nil {
		t.Fatal(err)
	}
	for decoder := xml.NewDecoder(&text); ; {
		if _, err := decoder.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("the plot is no XML: %v", err)
		}
	}
	if err := report.WriteTable(&text); err != nil || !strings.Contains(text.String(), "0 lost, 0 refused") {
		t.Errorf("the table is %s, %v", text.String(), err)
	}
}
