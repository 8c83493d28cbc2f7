package lab

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// fault is something that breaks and is whole again when inject returns.
type fault struct {
	name   string
	inject func(ctx context.Context, l *Lab) error
}

// faults is all that this machine can do to one program without privileges, in the order in which they come.
var faults = []fault{
	{"kill", func(ctx context.Context, l *Lab) error {
		l.system.kill()
		return l.system.start(ctx)
	}},
	{"cut", func(ctx context.Context, l *Lab) error {
		l.system.front.setCut(true)
		sleep(ctx, l.within(100*time.Millisecond, 3*time.Second))
		l.system.front.setCut(false)
		return nil
	}},
	{"pause", func(ctx context.Context, l *Lab) error {
		return l.system.pause(ctx, l.within(time.Second, 8*time.Second))
	}},
	{"stall", func(ctx context.Context, l *Lab) error {
		l.system.front.setStall(true)
		sleep(ctx, l.within(500*time.Millisecond, 8*time.Second))
		l.system.front.setStall(false)
		return nil
	}},
	{"kill twice", func(ctx context.Context, l *Lab) error {
		l.system.kill()
		if err := l.system.start(ctx); err != nil {
			return err
		}
		sleep(ctx, l.within(0, 200*time.Millisecond)) // while clients come back
		l.system.kill()
		return l.system.start(ctx)
	}},
	{"restart", func(ctx context.Context, l *Lab) error {
		if err := l.system.stop(); err != nil {
			return err
		}
		return l.system.start(ctx)
	}},
}

// within returns a time by chance.
func (l *Lab) within(least, most time.Duration) time.Duration {
	return least + time.Duration(l.random.Int64N(int64(most-least)))
}

// faultNames returns the names of all faults.
func faultNames() []string {
	names := make([]string, len(faults))
	for i, f := range faults {
		names[i] = f.name
	}
	return names
}

// chosenFaults returns the faults of the given names, all for none.
func chosenFaults(names []string) ([]fault, error) {
	if len(names) == 0 {
		return faults, nil
	}
	var chosen []fault
	for _, name := range names {
		i := slices.IndexFunc(faults, func(f fault) bool { return f.name == name })
		if i < 0 {
			return nil, fmt.Errorf("%q is no fault; there are %s", name, strings.Join(faultNames(), ", "))
		}
		chosen = append(chosen, faults[i])
	}
	return chosen, nil
}
