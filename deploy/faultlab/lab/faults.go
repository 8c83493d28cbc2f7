package lab

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/confab-im/confab/deploy/faultlab/history"
)

// fault is something that breaks and is whole again when inject returns.
type fault struct {
	name     string                                  // words; on the command line they may be joined by hyphens
	exposes  history.Exposure                        // what a run with this fault must show, or it has shown nothing
	on       func(s *system) bool                    // whether a system can have it; nil = every one
	demanded bool                                    // only where it is named
	disk     bool                                    // the data must be on a disk of its own
	inject   func(ctx context.Context, l *Lab) error // an error means that the run cannot go on
}

// allFaults is all that this machine can do to a system, in the order in which they come.
var allFaults = slices.Concat(processFaults(), linkFaults(), serverFaults(), storeFaults())

// processFaults is what can happen to processes: to one of any kind, to one of each kind, to all.
func processFaults() []fault {
	list := append(faultsOf("", func(s *system) []*part { return s.parts }),
		fault{name: "kill twice", exposes: history.Reconnects, inject: killTwice},
		fault{name: "kill all", exposes: history.Reconnects, on: many, inject: func(ctx context.Context, l *Lab) error {
			return all(l.system.parts, func(p *part) error {
				if err := p.kill(ctx); err != nil {
					return err
				}
				return p.await(ctx)
			})
		}},
	)
	for _, kind := range append([]string{kindServer, kindEdge, linkFunction}, functionKinds...) {
		list = append(list, faultsOf(kind, func(s *system) []*part { return s.of(kind) })...)
	}
	return list
}

// faultsOf is what can happen to one of some processes.
func faultsOf(kind string, among func(s *system) []*part) []fault {
	exposes := history.Repeats
	if kind == "" || kind == kindEdge {
		exposes = history.Reconnects
	}
	function := slices.Contains(functionKinds, kind)
	if (function || kind == linkFunction) && kind != "send" { // most functions are not on the way of a send
		exposes = ""
	}
	on := func(s *system) bool { return len(among(s)) > 0 }
	if kind == "" {
		on = nil
	}
	name := func(verb string) string { return strings.TrimSpace(verb + " " + kind) }
	pauseFor := func(least, most time.Duration) func(ctx context.Context, l *Lab) error {
		return func(ctx context.Context, l *Lab) error {
			p := l.pick(among(l.system))
			p.pause(ctx, l.within(least, most))
			return p.await(ctx)
		}
	}
	list := []fault{
		{name: name("kill"), exposes: exposes, on: on, inject: func(ctx context.Context, l *Lab) error {
			p := l.pick(among(l.system))
			if err := p.kill(ctx); err != nil {
				return err
			}
			return p.await(ctx)
		}},
		{name: name("pause"), exposes: exposes, on: on, demanded: function, inject: pauseFor(time.Second, 8*time.Second)},
		{name: name("restart"), on: on, demanded: function, inject: func(ctx context.Context, l *Lab) error { return restart(ctx, l.pick(among(l.system))) }},
	}
	if function {
		return list
	}
	return append(list,
		fault{name: name("pause 11s"), exposes: exposes, on: on, demanded: true, inject: pauseFor(11*time.Second, 11*time.Second+1)},
		fault{name: name("pause 60s"), exposes: exposes, on: on, demanded: true, inject: pauseFor(time.Minute, time.Minute+1)},
		fault{name: name("roll"), on: func(s *system) bool { return many(s) && len(among(s)) > 1 }, demanded: kind == "", inject: func(ctx context.Context, l *Lab) error {
			for _, p := range among(l.system) { // one after the other, as a roll-out does: the next only when this one serves again
				if err := restart(ctx, p); err != nil {
					return err
				}
			}
			return nil
		}},
	)
}

// restart ends a process as an operator does, and starts it again.
func restart(ctx context.Context, p *part) error {
	if err := p.stop(ctx); err != nil {
		return err
	}
	return p.start(ctx)
}

// killTwice kills a process, and again while clients come back.
func killTwice(ctx context.Context, l *Lab) error {
	p := l.pick(l.system.parts)
	for range 2 {
		if err := p.kill(ctx); err != nil {
			return err
		}
		if err := p.await(ctx); err != nil {
			return err
		}
		sleep(ctx, l.within(0, 200*time.Millisecond))
	}
	return nil
}

// many reports whether a system is more than one process.
func many(s *system) bool { return len(s.parts) > 1 }

// pick returns one of some by chance.
func (l *Lab) pick(among []*part) *part { return among[l.random.IntN(len(among))] }

// within returns a time by chance.
func (l *Lab) within(least, most time.Duration) time.Duration {
	return least + time.Duration(l.random.Int64N(int64(most-least)))
}

// noFaults is the name for none: what people do to each other is enough.
const noFaults = "none"

// chosenFaults returns the faults of the given names that a system can have; without a name all that need not be named.
func chosenFaults(names []string, s *system) ([]fault, error) {
	possible := slices.DeleteFunc(slices.Clone(allFaults), func(f fault) bool { return f.on != nil && !f.on(s) })
	if len(names) == 0 {
		return slices.DeleteFunc(possible, func(f fault) bool { return f.demanded }), nil
	}
	var chosen []fault
	if slices.Equal(names, []string{noFaults}) {
		return chosen, nil
	}
	for _, name := range names {
		i := slices.IndexFunc(possible, func(f fault) bool { return f.called(name) })
		if i < 0 {
			return nil, fmt.Errorf("%q is no fault of this topology; there are %s", name, faultNames(possible))
		}
		chosen = append(chosen, possible[i])
	}
	return chosen, nil
}

// called reports whether a fault has a name, as it stands or with hyphens.
func (f fault) called(name string) bool { return f.name == strings.ReplaceAll(name, "-", " ") }

// faultNames returns the names of faults as a list to read.
func faultNames(list []fault) string {
	names := make([]string, len(list))
	for i, f := range list {
		names[i] = strings.ReplaceAll(f.name, " ", "-")
	}
	return strings.Join(names, ", ")
}

// order returns the faults of a run one after the other, without end: in turn, so that every kind comes before any comes again, or by chance.
func order(chosen []fault, byChance bool, random *rand.Rand) func() fault {
	i := -1
	return func() fault {
		i++
		if byChance {
			i = random.IntN(len(chosen))
		}
		return chosen[i%len(chosen)]
	}
}
