package bench

import (
	"bytes"
	"fmt"
	"html"
	"io"
	"math"
)

// Measures of the plot in pixels.
const (
	panelWide, panelHigh  = 860.0, 380.0
	left, right           = 70.0, 250.0 // beside the field; the legend stands on the right
	above, below          = 46.0, 52.0
	fieldWide, fieldHigh  = panelWide - left - right, panelHigh - above - below
	titleHigh, legendHigh = 30.0, 20.0
)

// colours of curves are told apart, and seen on white and on black alike.
var colours = []string{"#8a8f98", "#2f81f7", "#d9822b", "#2da44e", "#bf5af2", "#e5534b"}

// style follows what the reader's system prefers, and the text of the page around where it knows nothing.
const style = `svg{font:13px system-ui,sans-serif;--ink:#1f2328;--faint:#8c959f55}@media (prefers-color-scheme:dark){svg{--ink:#e6edf3;--faint:#8c959f55}}` +
	`text{fill:var(--ink)}.grid{stroke:var(--faint)}.axis{stroke:var(--ink)}polyline{fill:none;stroke-width:2}.p99{stroke-dasharray:6 4}`

// WritePlot draws the curves of the report, a field for each scenario that has some: latencies at p50 and p99, both axes logarithmic.
func (r Report) WritePlot(w io.Writer) error {
	var drawn []ScenarioReport
	for _, s := range r.Scenarios {
		if len(points(s.Curves)) > 0 {
			drawn = append(drawn, s)
		}
	}
	var out bytes.Buffer
	high := titleHigh + panelHigh*float64(len(drawn))
	fmt.Fprintf(&out, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %g %g" role="img"><title>confab bench</title><style>%s</style>`+"\n", panelWide, high, style)
	fmt.Fprintf(&out, `<text x="%g" y="20">%s</text>`+"\n", left, html.EscapeString(fmt.Sprintf("confab %s, %s, %d cores, sync %s; p50 solid, p99 dashed", r.Version, r.At.UTC().Format("2006-01-02"), r.Machine.Cores, r.Settings.Sync)))
	for i, s := range drawn {
		fmt.Fprintf(&out, `<g transform="translate(0 %g)">`+"\n", titleHigh+panelHigh*float64(i))
		drawPanel(&out, s)
		fmt.Fprintln(&out, "</g>")
	}
	fmt.Fprintln(&out, "</svg>")
	_, err := w.Write(out.Bytes())
	return err
}

func points(curves []Curve) []Point {
	var all []Point
	for _, c := range curves {
		for _, p := range c.Points {
			if p.X > 0 && p.Latencies.P99 > 0 {
				all = append(all, p)
			}
		}
	}
	return all
}

// scale maps values to pixels by their logarithm.
type scale struct{ low, high, from, to float64 }

func (s scale) at(v float64) float64 {
	return s.from + (math.Log(v)-math.Log(s.low))/(math.Log(s.high)-math.Log(s.low))*(s.to-s.from)
}

// marks returns the round values within a scale: 1, 2 and 5 of every power of ten, or fewer where those would be too many.
func (s scale) marks() []float64 {
	steps := []float64{1, 2, 5}
	if s.high/s.low > 1e4 {
		steps = []float64{1}
	}
	var all []float64
	for decade := math.Pow(10, math.Floor(math.Log10(s.low))); decade <= s.high; decade *= 10 {
		for _, step := range steps {
			if v := decade * step; v >= s.low && v <= s.high {
				all = append(all, v)
			}
		}
	}
	return all
}

func drawPanel(out *bytes.Buffer, s ScenarioReport) {
	x := scale{math.Inf(1), 0, left, left + fieldWide}
	y := scale{math.Inf(1), 0, above + fieldHigh, above}
	for _, p := range points(s.Curves) {
		x.low, x.high = min(x.low, p.X/1.1), max(x.high, p.X*1.1)
		y.low, y.high = min(y.low, p.Latencies.P50/1.3), max(y.high, p.Latencies.P99*1.3)
	}
	fmt.Fprintf(out, `<text x="%g" y="%g" font-weight="600">%s</text>`+"\n", left, above-16, html.EscapeString(s.Name))
	for _, v := range x.marks() {
		fmt.Fprintf(out, `<line class="grid" x1="%.1f" x2="%.1f" y1="%g" y2="%g"/><text x="%.1f" y="%g" text-anchor="middle">%s</text>`+"\n", x.at(v), x.at(v), above, above+fieldHigh, x.at(v), above+fieldHigh+18, number(v))
	}
	for _, v := range y.marks() {
		fmt.Fprintf(out, `<line class="grid" x1="%g" x2="%g" y1="%.1f" y2="%.1f"/><text x="%g" y="%.1f" text-anchor="end">%s</text>`+"\n", left, left+fieldWide, y.at(v), y.at(v), left-8, y.at(v)+4, number(v))
	}
	fmt.Fprintf(out, `<path class="axis" fill="none" d="M%g %gV%gH%g"/><text x="%g" y="%g" text-anchor="middle">%s</text><text x="%g" y="%g">ms</text>`+"\n",
		left, above, above+fieldHigh, left+fieldWide, left+fieldWide/2, panelHigh-12, html.EscapeString(s.Curves[0].X), left-40, above-8)
	for i, c := range s.Curves {
		colour := colours[i%len(colours)]
		for _, line := range []struct {
			class string
			of    func(Latencies) float64
		}{{"p50", func(l Latencies) float64 { return l.P50 }}, {"p99", func(l Latencies) float64 { return l.P99 }}} {
			fmt.Fprintf(out, `<polyline class="%s" stroke="%s" points="`, line.class, colour)
			for _, p := range c.ascending() {
				fmt.Fprintf(out, "%.1f,%.1f ", x.at(p.X), y.at(line.of(p.Latencies)))
			}
			fmt.Fprintln(out, `"/>`)
		}
		at := above + 10 + legendHigh*float64(i)
		fmt.Fprintf(out, `<line stroke="%s" stroke-width="3" x1="%g" x2="%g" y1="%g" y2="%g"/><text x="%g" y="%g">%s</text>`+"\n",
			colour, left+fieldWide+14, left+fieldWide+34, at, at, left+fieldWide+42, at+4, html.EscapeString(c.Name))
	}
}
