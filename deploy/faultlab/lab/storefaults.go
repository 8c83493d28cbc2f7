package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/confab-im/confab/deploy/faultlab/history"
)

// ErrNoDisk says that a fault needs a disk of its own for the data, and that this machine cannot make one.
var ErrNoDisk = errors.New("there is no disk of its own for the data")

// storeFaults is what can happen to disks. They take disks of their own.
func storeFaults() []fault {
	return []fault{
		{name: "power cut", exposes: history.Reconnects, demanded: true, disk: true, inject: func(ctx context.Context, l *Lab) error {
			return l.cutPower(ctx, l.system.parts, l.disks)
		}},
		{name: "power cut server", exposes: history.Repeats, demanded: true, disk: true, on: served, inject: func(ctx context.Context, l *Lab) error {
			p := l.pick(l.system.of(kindServer))
			return l.cutPower(ctx, []*part{p}, slices.DeleteFunc(slices.Clone(l.disks), func(d *disk) bool { return d.part != p.name }))
		}},
		{name: "full disk", demanded: true, disk: true, inject: func(ctx context.Context, l *Lab) error {
			for _, d := range l.disks {
				if err := d.fill(); err != nil {
					return err
				}
			}
			sleep(ctx, l.within(12*time.Second, 20*time.Second))
			var failed error
			for _, d := range l.disks {
				failed = errors.Join(failed, d.empty())
			}
			return failed
		}},
	}
}

// served reports whether servers are processes of their own.
func served(s *system) bool { return len(s.of(kindServer)) > 0 }

// cutPower ends processes as kill -9 does, has their disks forget what was not synced, and starts them again, servers first.
func (l *Lab) cutPower(ctx context.Context, parts []*part, disks []*disk) error {
	if err := all(parts, func(p *part) error { return p.down(ctx) }); err != nil {
		return err
	}
	for _, d := range disks {
		if err := d.cut(); err != nil {
			return err
		}
	}
	for _, first := range []bool{true, false} {
		group := slices.DeleteFunc(slices.Clone(parts), func(p *part) bool { return (p.kind == kindServer) != first })
		if err := all(group, func(p *part) error { return p.start(ctx) }); err != nil {
			return err
		}
	}
	return nil
}

// openDisks puts the data on disks of its own where a fault needs that: one for all of the all-in-one, and one for the store of each server.
func (l *Lab) openDisks() error {
	var needs []string
	for _, f := range allFaults {
		if f.disk && slices.ContainsFunc(l.config.Faults, f.called) {
			needs = append(needs, f.name)
		}
	}
	if len(needs) == 0 {
		return nil
	}
	for part, dir := range storesOf(l.config.Topology) {
		d, err := newDisk(part, filepath.Join(l.config.Data, dir))
		if err != nil {
			return fmt.Errorf("%s: %w", strings.Join(needs, ", "), err)
		}
		l.disks = append(l.disks, d)
	}
	return nil
}

// storesOf returns where processes of a topology have what they store, in the directory of the data.
func storesOf(t Topology) map[string]string {
	switch t {
	case Processes:
		return map[string]string{serverName(0): "nats/jetstream"}
	case Cluster:
		stores := map[string]string{}
		for i := range servers {
			stores[serverName(i)] = "nats/jetstream-" + serverName(i)
		}
		return stores
	}
	return map[string]string{kindConfab: "."}
}

// syncDisks writes everything to the disks: what was set up counts as set up long ago.
func (l *Lab) syncDisks() error {
	for _, d := range l.disks {
		if err := d.sync(); err != nil {
			return err
		}
	}
	return nil
}

// closeDisks takes the disks away.
func (l *Lab) closeDisks() error {
	var failed error
	for _, d := range l.disks {
		failed = errors.Join(failed, d.close())
	}
	return failed
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
