package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/subjects"
)

// detailed is what is shown of one function.
type detailed struct {
	listed
	Running []running `json:"running"`
}

// running is one instance.
type running struct {
	Instance  string                           `json:"instance"`
	Version   string                           `json:"version"`
	Started   time.Time                        `json:"started"`
	Working   int                              `json:"working"` // calls at work
	Waiting   int                              `json:"waiting"` // calls that wait for a worker
	IdleMS    int64                            `json:"idle_ms"`
	Cold      int64                            `json:"cold"`       // calls that had waited for it to start
	ConnectMS float64                          `json:"connect_ms"` // from the start of its process to its connection; 0 = not known
	ReadyMS   float64                          `json:"ready_ms"`   // from there to its first up
	Methods   map[string]functions.MethodStats `json:"methods"`
}

// detail shows one function with the statistics of its instances.
func (v *observer) detail(ctx context.Context, c call, l listed, asJSON bool) error {
	all, err := v.statistics(ctx, l.Function, l.Instances)
	if err != nil {
		return err
	}
	if asJSON {
		return printJSON(c, detailed{l, all})
	}
	fmt.Fprintf(c.out, "%s: %s\n", l.Function, l.state())
	if l.Description != "" {
		fmt.Fprintln(c.out, strings.Map(printable, l.Description))
	}
	if l.Reason != "" {
		fmt.Fprintf(c.out, "It does not start: %s\n", strings.Map(printable, l.Reason))
	}
	if l.Scale != nil {
		fmt.Fprintf(c.out, "%d to %d instances, %d for the first call; each works on %d calls at once; callers hold a call for %s\n",
			l.Scale.Min, l.Scale.Max, l.Scale.Wake, l.Concurrency, time.Duration(l.HoldMS)*time.Millisecond)
	}
	fmt.Fprintf(c.out, "%d calls held", l.Held)
	if l.Waiting != nil {
		fmt.Fprintf(c.out, ", %d entries and jobs wait", *l.Waiting)
	}
	fmt.Fprintln(c.out)
	w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	if len(all) > 0 {
		fmt.Fprintln(w, "\nINSTANCE\tVERSION\tUP FOR\tWORKING\tWAITING\tIDLE\tCOLD\tCONNECTED\tREADY")
	}
	for _, r := range all {
		connected := "-"
		if r.ConnectMS > 0 {
			connected = milliseconds(r.ConnectMS)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%s\t%d\t%s\t%s\n", strings.Map(printable, r.Instance), strings.Map(printable, r.Version), short(time.Since(r.Started)),
			r.Working, r.Waiting, short(time.Duration(r.IdleMS)*time.Millisecond), r.Cold, connected, milliseconds(r.ReadyMS))
	}
	fmt.Fprintln(w, "\nMETHOD\tCALLS\tREFUSED\tFAILED\tP50\tP99\t")
	for _, m := range l.Methods {
		s := together(string(m.Name), all)
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%s\t%s\t%s\n", m.Name, s.Processed, s.Refused, s.Failed, milliseconds(s.P50MS), milliseconds(s.P99MS), methodWords(m))
	}
	return w.Flush()
}

// together sums up what instances say of a method; of percentiles it takes the worst.
func together(method string, all []running) functions.MethodStats {
	var sum functions.MethodStats
	for _, r := range all {
		s := r.Methods[method]
		sum.Processed += s.Processed
		sum.Refused += s.Refused
		sum.Failed += s.Failed
		sum.P50MS, sum.P99MS = max(sum.P50MS, s.P50MS), max(sum.P99MS, s.P99MS)
	}
	return sum
}

func milliseconds(ms float64) string { return fmt.Sprintf("%.1fms", ms) }

// statistics asks the instances of a function, and returns what as many as are up have said, or those that did within a second, in ascending order of name.
func (v *observer) statistics(ctx context.Context, f subjects.Function, up int) ([]running, error) {
	subject, err := micro.ControlSubject(micro.StatsVerb, subjects.Service(f), "")
	if err != nil {
		return nil, err
	}
	answers := make(chan *nats.Msg, 1024)
	inbox := v.nc.NewInbox()
	sub, err := v.nc.ChanSubscribe(inbox, answers)
	if err != nil {
		return nil, err
	}
	defer func() { _ = sub.Unsubscribe() }() // the connection is closed in a moment
	if err := v.nc.PublishRequest(subject, inbox, nil); err != nil {
		return nil, err
	}
	patience := time.NewTimer(time.Second)
	defer patience.Stop()
	all := []running{}
	for waits := true; waits && len(all) < up; {
		select {
		case msg := <-answers:
			var s micro.Stats
			if json.Unmarshal(msg.Data, &s) == nil && s.ID != "" {
				all = append(all, runningOf(s))
			}
		case <-patience.C:
			waits = false
		case <-ctx.Done():
			waits = false
		}
	}
	slices.SortFunc(all, func(a, b running) int { return cmp.Compare(a.Instance, b.Instance) })
	return all, nil
}

// runningOf reads the statistics of an instance; one in another language has none of ours beside micro's.
func runningOf(s micro.Stats) running {
	r := running{Instance: s.ID, Version: s.Version, Started: s.Started, Methods: map[string]functions.MethodStats{}}
	for _, e := range s.Endpoints {
		var m functions.MethodStats
		if json.Unmarshal(e.Data, &m) != nil {
			m = functions.MethodStats{Processed: uint64(max(0, e.NumRequests)), Failed: uint64(max(0, e.NumErrors))}
		}
		r.Methods[e.Name] = m
		r.Working, r.Waiting, r.IdleMS, r.Cold, r.ConnectMS, r.ReadyMS = m.Working, m.Waiting, m.IdleMS, m.Cold, m.ConnectMS, m.ReadyMS
	}
	return r
}
