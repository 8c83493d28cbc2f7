package bench

import (
	"errors"
	"math/rand/v2"
	"os"
	"testing"
	"time"
)

// elsewhere starts a confab that a test measures as if it ran on another machine.
func elsewhere(t *testing.T) *system {
	t.Helper()
	r := &run{config: Config{Command: []string{os.Args[0]}, Sync: SyncDefault}, report: &ScenarioReport{}, dir: t.TempDir(), mark: "test", random: rand.New(rand.NewPCG(1, 1))}
	s, err := r.up(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.down(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestAConfabElsewhereIsMeasuredByItsProtocolAlone(t *testing.T) {
	s := elsewhere(t)
	known, err := s.gather(t.Context(), 2)
	if err != nil {
		t.Fatal(err)
	}
	config := Config{Command: []string{os.Args[0]}, URL: s.url, Scenarios: []string{"direct"}, Sync: SyncDefault, Lasts: 100 * time.Millisecond, Rounds: 1, People: 2, Dir: t.TempDir()}
	for name, tokens := range map[string][]string{"people sign up": nil, "people have tokens": {known[0].token, known[1].token}} {
		t.Run(name, func(t *testing.T) {
			config := config
			config.Tokens = tokens
			report, err := Run(t.Context(), config)
			if err != nil {
				t.Fatal(err)
			}
			found := report.Scenarios[0]
			if found.Figures[0].Confab.Median <= 0 {
				t.Errorf("found %+v", found.Figures[0])
			}
			for _, p := range found.Processes {
				if p.Name == "confab" {
					t.Error("it claims to know what a confab elsewhere used")
				}
			}
		})
	}
}

// TestWhatNeverArrivesIsLost cuts a receiver off: what is acknowledged then never comes there.
func TestWhatNeverArrivesIsLost(t *testing.T) {
	s := elsewhere(t)
	m, stop, err := s.pairs(t.Context(), 2)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	m.lanes[1].from.close() // the receiver of lane 0
	answered := make(chan error, 1)
	m.post(0, time.Now(), func(err error) { answered <- err })
	if err := <-answered; err != nil {
		t.Fatal(err)
	}
	if lost := m.missing(t.Context(), time.Millisecond); lost != 1 {
		t.Errorf("%d are lost of 1", lost)
	}
	m.post(1, time.Now(), func(err error) { answered <- err })
	if err := <-answered; !errors.Is(err, errEnded) {
		t.Errorf("who is not connected posts with %v", err)
	}
}
