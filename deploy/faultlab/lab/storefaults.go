package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/confab-im/confab/deploy/faultlab/history"
)

// ErrNoDisk says that a fault needs a disk of its own for the data, and that this machine cannot make one.
var ErrNoDisk = errors.New("there is no disk of its own for the data")

// storeFaults is what can happen to the disk. They take a disk of their own.
func storeFaults() []fault {
	return []fault{
		{name: "power cut", exposes: history.Reconnects, demanded: true, disk: true, inject: func(ctx context.Context, l *Lab) error {
			if err := all(l.system.parts, func(p *part) error { return p.down(ctx) }); err != nil {
				return err
			}
			if err := l.disk.cut(); err != nil {
				return err
			}
			return l.system.again(ctx)
		}},
		{name: "full disk", demanded: true, disk: true, inject: func(ctx context.Context, l *Lab) error {
			if err := l.disk.fill(); err != nil {
				return err
			}
			sleep(ctx, l.within(12*time.Second, 20*time.Second))
			return l.disk.empty()
		}},
	}
}

// again starts all processes that were held down, servers first.
func (s *system) again(ctx context.Context) error {
	for _, first := range []bool{true, false} {
		group := slices.DeleteFunc(slices.Clone(s.parts), func(p *part) bool { return (p.kind == kindServer) != first })
		if err := all(group, func(p *part) error { return p.start(ctx) }); err != nil {
			return err
		}
	}
	return nil
}

// openDisk puts the data on a disk of its own where a fault needs one.
func (l *Lab) openDisk() (err error) {
	var needs []string
	for _, f := range allFaults {
		if f.disk && slices.ContainsFunc(l.config.Faults, f.called) {
			needs = append(needs, f.name)
		}
	}
	if len(needs) == 0 {
		return nil
	}
	if l.disk, err = newDisk(l.config.Data); err != nil {
		return fmt.Errorf("%s: %w", strings.Join(needs, ", "), err)
	}
	return nil
}

// closeDisk takes the disk away, if there is one.
func (l *Lab) closeDisk() error {
	if l.disk == nil {
		return nil
	}
	return l.disk.close()
}

// watchEvery is how often processes are asked whether they are ready.
const watchEvery = 100 * time.Millisecond

// watchReadiness notes, until ctx ends, what processes say of themselves whenever that changes.
func (l *Lab) watchReadiness(ctx context.Context) {
	said := map[string]string{}
	for ctx.Err() == nil {
		for _, p := range l.system.parts {
			if p.ops == "" {
				continue
			}
			answer := readiness(ctx, p.ops)
			if before, known := said[p.name]; ctx.Err() == nil && (!known || before != answer) {
				said[p.name] = answer
				l.history.Add(history.Record{Kind: history.Ready, Process: p.name, Body: answer})
			}
		}
		sleep(ctx, watchEvery)
	}
}

// readiness asks a process whether it is ready, and returns why not, in its own words where it says any; empty = it is.
func readiness(ctx context.Context, address string) string {
	within, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(within, http.MethodGet, "http://"+address+"/readyz?verbose", nil)
	if err != nil {
		return err.Error()
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		var timeout interface{ Timeout() bool }
		if errors.As(err, &timeout) && timeout.Timeout() {
			return "no answer"
		}
		return "no connection"
	}
	defer func() { _ = response.Body.Close() }()
	text, _ := io.ReadAll(io.LimitReader(response.Body, 4<<10)) // what was said until then
	if response.StatusCode == http.StatusOK {
		return ""
	}
	return response.Status + " " + strings.Join(strings.Fields(string(text)), " ")
}
