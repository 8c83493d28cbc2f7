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

	"github.com/confab-im/confab/deploy/load"
	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// The states of a function.
const (
	stateUp     = "up"     // instances answer calls
	stateAsleep = "asleep" // none does; a call starts one, where somebody starts instances
	stateBroken = "broken" // calls want one, and it does not start
)

// listed is what is shown of a function.
type listed struct {
	Function    subjects.Function     `json:"function"`
	Description string                `json:"description,omitempty"`
	State       string                `json:"state"` // one of the states above
	Reason      string                `json:"reason,omitempty"`
	Registered  bool                  `json:"registered"`
	Instances   int                   `json:"instances"`
	Busy        int                   `json:"busy"`            // calls at work or waiting in instances, at most, in the last second
	Held        int                   `json:"held"`            // calls that callers hold
	Waiting     *int                  `json:"waiting"`         // entries and jobs that wait; null = it takes none, or they cannot be counted
	Concurrency int                   `json:"concurrency"`     // of one instance; 0 = not known
	Scale       *wire.InstanceScale   `json:"scale,omitempty"` // nil = it is not registered
	HoldMS      int64                 `json:"hold_ms,omitempty"`
	IdleMS      int64                 `json:"idle_ms"`
	Methods     []wire.InstanceMethod `json:"methods"`
}

// observer sees what functions do.
type observer struct {
	nc      *nats.Conn
	caller  *functions.Caller
	watcher *load.Watcher
}

// observe connects and listens for so long that silence means something.
func (o operator) observe(ctx context.Context, c call) (*observer, error) {
	log := c.errors()
	nc, _, err := o.server().Connect("confab-cli", log)
	if err != nil {
		return nil, err
	}
	v := &observer{nc: nc}
	if v.caller, err = functions.NewCaller(nc, log); err == nil {
		v.watcher, err = load.New(nc, log)
	}
	for err == nil && !v.watcher.Settled() {
		select {
		case <-ctx.Done():
			err = fmt.Errorf("no lasting connection to NATS within %s: %w", o.Wait, cmp.Or(nc.LastError(), ctx.Err()))
		case <-time.After(20 * time.Millisecond):
		}
	}
	if err != nil {
		v.close()
		return nil, err
	}
	return v, nil
}

func (v *observer) close() {
	if v.watcher != nil {
		v.watcher.Close()
	}
	if v.caller != nil {
		v.caller.Close()
	}
	v.nc.Close()
}

// functions returns what is known of all functions, in ascending order of name.
func (v *observer) functions(ctx context.Context) []listed {
	var all []listed
	for _, k := range v.caller.Functions() {
		now := v.watcher.Of(k.Function)
		l := listed{
			Function: k.Function, State: stateAsleep, Registered: k.Registered != nil, Instances: k.Instances,
			Busy: now.Peak, Held: now.Held, Concurrency: now.Concurrency, IdleMS: now.IdleFor.Milliseconds(), Methods: k.Methods,
		}
		switch {
		case k.Instances > 0:
			l.State = stateUp
		case k.Broken:
			l.State, l.Reason = stateBroken, k.Reason
		}
		if r := k.Registered; r != nil {
			l.Description, l.Scale, l.HoldMS = r.Description, &r.Scale, r.HoldMS
			if l.Concurrency == 0 {
				l.Concurrency = r.Concurrency
			}
			if r.Jobs || len(r.Events) > 0 {
				if waiting, err := jetstream.Backlog(ctx, v.nc, k.Function); err == nil {
					l.Waiting = &waiting
				}
			}
		}
		if l.Methods == nil {
			l.Methods = []wire.InstanceMethod{}
		}
		all = append(all, l)
	}
	return all
}

// showFunctions shows all functions, or one of them closely.
func showFunctions(ctx context.Context, c call) error {
	config := struct {
		operator
		Methods bool `conf:"methods" help:"show the methods too"`
		JSON    bool `conf:"json" help:"print JSON"`
	}{operator: newOperator()}
	var name subjects.Function
	var err error
	if len(c.args) > 0 && !strings.HasPrefix(c.args[0], "-") {
		name, err = c.loadFunction("functions", &config)
	} else {
		var rest []string
		if rest, err = c.load("functions", &config); err == nil {
			err = noArguments("functions", rest)
		}
	}
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, config.Wait)
	defer cancel()
	v, err := config.observe(ctx, c)
	if err != nil {
		return err
	}
	defer v.close()
	all := v.functions(ctx)
	if name != "" {
		at := slices.IndexFunc(all, func(l listed) bool { return l.Function == name })
		if at < 0 {
			return fmt.Errorf("nobody has registered a function %s or heard of one", name)
		}
		return v.detail(ctx, c, all[at], config.JSON)
	}
	if config.JSON {
		return printJSON(c, all)
	}
	return listFunctions(c, all, config.Methods)
}

func printJSON(c call, what any) error {
	e := json.NewEncoder(c.out)
	e.SetIndent("", "  ")
	return e.Encode(what)
}

func listFunctions(c call, all []listed, methods bool) error {
	if len(all) == 0 {
		_, err := fmt.Fprintln(c.out, "There are no functions: none is registered, and none is up.")
		return err
	}
	w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "FUNCTION\tSTATE\tBUSY\tHELD\tWAITING\tAT ONCE\tSCALE\tIDLE")
	for _, l := range all {
		waiting := "-"
		if l.Waiting != nil {
			waiting = fmt.Sprint(*l.Waiting)
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%s\t%d\t%s\t%s\n", l.Function, l.state(), l.Busy, l.Held, waiting, l.Concurrency, l.scale(), l.idle())
		for _, m := range l.Methods {
			if methods {
				fmt.Fprintf(w, "  .%s\t%s\n", m.Name, methodWords(m))
			}
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, l := range all {
		if l.Reason != "" {
			fmt.Fprintf(c.out, "\n%s does not start: %s\n", l.Function, strings.Map(printable, l.Reason))
		}
	}
	return nil
}

func (l listed) state() string {
	words := l.State
	if l.State == stateUp {
		words = fmt.Sprint(stateUp, " ", l.Instances)
	}
	if !l.Registered {
		words += ", unregistered"
	}
	return words
}

func (l listed) scale() string {
	if l.Scale == nil {
		return "-"
	}
	return fmt.Sprintf("%d-%d", l.Scale.Min, l.Scale.Max)
}

func (l listed) idle() string {
	if l.State != stateUp {
		return "-"
	}
	return short(time.Duration(l.IdleMS) * time.Millisecond)
}

// short rounds a duration to what fits a table.
func short(d time.Duration) string {
	switch {
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

// methodWords says who may call a method, and how long it may take.
func methodWords(m wire.InstanceMethod) string {
	words := []string{"internal"}
	switch {
	case m.Anonymous:
		words[0] = "public, before sign-in"
	case m.Public:
		words[0] = "public"
	}
	if m.Idempotent {
		words = append(words, "idempotent")
	}
	timeout := functions.DefaultTimeout
	if m.TimeoutMS > 0 {
		timeout = time.Duration(m.TimeoutMS) * time.Millisecond
	}
	return strings.Join(append(words, timeout.String()), ", ")
}
