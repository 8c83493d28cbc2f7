package bench

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// Report is everything that a run found. It is written as JSON as it stands; fields are only added.
type Report struct {
	At        time.Time        `json:"at"`
	Version   string           `json:"version"`
	Machine   Machine          `json:"machine"`
	Settings  Settings         `json:"settings"`
	Scenarios []ScenarioReport `json:"scenarios"`
}

// Machine says what the figures were measured on.
type Machine struct {
	System    string  `json:"system"` // operating system and architecture
	Processor string  `json:"processor,omitempty"`
	Cores     int     `json:"cores"` // that programs may use
	Memory    uint64  `json:"memory_bytes,omitempty"`
	Go        string  `json:"go"`
	SyncMS    float64 `json:"sync_ms"` // median time to append 4 KiB to a file and sync it, where the stores are
}

// Settings are those of a run that its figures depend on.
type Settings struct {
	URL     string `json:"url,omitempty"` // of the confab elsewhere
	Sync    string `json:"sync"`
	Lasts   string `json:"lasts"`
	Rounds  int    `json:"rounds"`
	Seed    uint64 `json:"seed"`
	Bytes   int    `json:"text_bytes"`
	Command string `json:"command"`
}

// ScenarioReport is what one scenario found.
type ScenarioReport struct {
	Name      string        `json:"name"`
	About     string        `json:"about"`
	Figures   []Figure      `json:"figures"`
	Curves    []Curve       `json:"curves,omitempty"`
	Processes []ProcessUsed `json:"processes,omitempty"`
	Notes     []string      `json:"notes,omitempty"`
	Lost      uint64        `json:"lost"`    // acknowledged and never delivered
	Refused   uint64        `json:"refused"` // answered with an error, or not at all
	Seconds   float64       `json:"seconds"`
}

// Figure is one thing that was measured, of confab and of the floor.
type Figure struct {
	Name   string  `json:"name"`
	Unit   string  `json:"unit"`
	Confab Series  `json:"confab"`
	Floor  *Series `json:"floor,omitempty"`
	Ratio  float64 `json:"ratio,omitempty"` // of the medians; 0 = there is no floor
	Target string  `json:"target,omitempty"`
	Met    *bool   `json:"met,omitempty"` // whether the target is met here; absent = there is none
}

// Series is what several rounds gave.
type Series struct {
	Median float64   `json:"median"`
	Min    float64   `json:"min"`
	Max    float64   `json:"max"`
	Rounds []float64 `json:"rounds"`
}

// ProcessUsed is what a process has used by the end of a scenario.
type ProcessUsed struct {
	Name       string  `json:"name"`
	CPUSeconds float64 `json:"cpu_seconds"`
	Memory     Memory  `json:"memory_bytes"`
}

// Curve is a line of a plot: latencies over what X says.
type Curve struct {
	Name   string  `json:"name"`
	X      string  `json:"x"`
	Points []Point `json:"points"`
}

// Point is one measurement of a curve.
type Point struct {
	X         float64   `json:"x"`
	Answered  float64   `json:"answered"` // a second
	Latencies Latencies `json:"latency_ms"`
}

// ascending returns the points that a plot can show, from the lowest x on.
func (c Curve) ascending() []Point {
	return slices.SortedFunc(slices.Values(points([]Curve{c})), func(a, b Point) int { return cmp.Compare(a.X, b.X) })
}

// seriesOf returns the series of some values; those that are not known (NaN) are left out.
func seriesOf(values []float64) Series {
	values = slices.DeleteFunc(slices.Clone(values), math.IsNaN)
	if len(values) == 0 {
		return Series{Rounds: []float64{}}
	}
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	median := sorted[middle]
	if len(sorted)%2 == 0 {
		median = (median + sorted[middle-1]) / 2
	}
	return Series{Median: median, Min: sorted[0], Max: sorted[len(sorted)-1], Rounds: values}
}

// goal is a target: at least or at most a number of the figure's unit, or of times the floor.
type goal struct {
	least, most, times float64
}

func (g goal) text() string {
	switch {
	case g.least > 0:
		return "≥ " + number(g.least)
	case g.most > 0:
		return "≤ " + number(g.most)
	case g.times > 0:
		return "≤ " + number(g.times) + " × floor"
	}
	return ""
}

func (g goal) met(f Figure) *bool {
	var met bool
	switch {
	case len(f.Confab.Rounds) == 0:
		return nil
	case g.least > 0:
		met = f.Confab.Median >= g.least
	case g.most > 0:
		met = f.Confab.Median <= g.most
	case g.times > 0 && f.Ratio > 0:
		met = f.Ratio <= g.times
	default:
		return nil
	}
	return &met
}

// figure adds a figure; bare is nil where nothing stands against it.
func (r *ScenarioReport) figure(name, unit string, confab, bare []float64, g goal) {
	f := Figure{Name: name, Unit: unit, Confab: seriesOf(confab), Target: g.text()}
	if bare != nil {
		s := seriesOf(bare)
		f.Floor = &s
		if s.Median > 0 {
			f.Ratio = f.Confab.Median / s.Median
		}
	}
	f.Met = g.met(f)
	r.Figures = append(r.Figures, f)
}

// note adds a sentence that a reader of the figures should know.
func (r *ScenarioReport) note(format string, args ...any) {
	r.Notes = append(r.Notes, fmt.Sprintf(format, args...))
}

// failed counts what an outcome says was refused.
func (r *ScenarioReport) failed(what string, o outcome) {
	if o.failed > 0 {
		r.Refused += o.failed
		r.note("%s: %d were refused or not answered; the first: %v", what, o.failed, o.err)
	}
}

// number writes a figure with three digits that count, and groups of thousands.
func number(v float64) string {
	switch {
	case v == 0 || math.IsNaN(v):
		return "0"
	case math.Abs(v) < 100:
		return strconv.FormatFloat(v, 'g', 3, 64)
	}
	digits := strconv.FormatFloat(math.Abs(v), 'f', 0, 64)
	var out strings.Builder
	if v < 0 {
		out.WriteByte('-')
	}
	for i, d := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			out.WriteByte(',')
		}
		out.WriteRune(d)
	}
	return out.String()
}

// WriteJSON writes the report for programs.
func (r Report) WriteJSON(w io.Writer) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(r)
}

// WriteTable writes the report for people.
func (r Report) WriteTable(w io.Writer) error {
	m := r.Machine
	fmt.Fprintf(w, "confab %s, %s, %s\n", r.Version, r.At.UTC().Format(time.RFC3339), r.Settings.Command)
	fmt.Fprintf(w, "%s, %d cores, %s, %s; a synced write takes %s ms here; sync %s, %s a round, %d rounds, seed %d\n",
		cmp.Or(m.Processor, m.System), m.Cores, bytesText(m.Memory), m.Go, number(m.SyncMS), r.Settings.Sync, r.Settings.Lasts, r.Settings.Rounds, r.Settings.Seed)
	for _, s := range r.Scenarios {
		fmt.Fprintf(w, "\n%s: %s\n", s.Name, s.About)
		columns := tabwriter.NewWriter(w, 2, 0, 2, ' ', 0)
		fmt.Fprintln(columns, "  figure\tunit\tconfab\t(min–max)\tfloor\tratio\ttarget\t")
		for _, f := range s.Figures {
			fmt.Fprintf(columns, "  %s\t%s\t%s\t%s\t%s\t%s\t%s\t\n", f.Name, f.Unit, median(&f.Confab), span(f.Confab), median(f.Floor), ratio(f.Ratio), target(f))
		}
		if err := columns.Flush(); err != nil {
			return err
		}
		for _, p := range s.Processes {
			fmt.Fprintf(w, "  process %s: %s s of processor time, %s resident (%s proportional)\n", p.Name, number(p.CPUSeconds), bytesText(p.Memory.RSS), bytesText(p.Memory.PSS))
		}
		for _, note := range s.Notes {
			fmt.Fprintf(w, "  · %s\n", note)
		}
		fmt.Fprintf(w, "  %d lost, %d refused, in %s s\n", s.Lost, s.Refused, number(s.Seconds))
	}
	return nil
}

func median(s *Series) string {
	if s == nil || len(s.Rounds) == 0 {
		return "–"
	}
	return number(s.Median)
}

func span(s Series) string {
	if len(s.Rounds) < 2 {
		return ""
	}
	return "(" + number(s.Min) + "–" + number(s.Max) + ")"
}

func ratio(r float64) string {
	if r == 0 {
		return ""
	}
	return "× " + strconv.FormatFloat(r, 'f', 2, 64)
}

func target(f Figure) string {
	switch {
	case f.Met == nil:
		return f.Target
	case *f.Met:
		return f.Target + ", met"
	}
	return f.Target + ", missed"
}

func bytesText(n uint64) string {
	switch {
	case n == 0:
		return "unknown memory"
	case n < 1<<20:
		return number(float64(n)/(1<<10)) + " KiB"
	case n < 1<<30:
		return number(float64(n)/(1<<20)) + " MiB"
	}
	return number(float64(n)/(1<<30)) + " GiB"
}

// thisMachine describes the machine.
func thisMachine() Machine {
	processor, memory := model()
	return Machine{System: runtime.GOOS + "/" + runtime.GOARCH, Processor: processor, Cores: runtime.GOMAXPROCS(0), Memory: memory, Go: runtime.Version()}
}
