package bench

import (
	"context"
	"errors"
	"regexp"
	"slices"

	"github.com/confab-im/confab/deploy/natsconfig"
	"github.com/confab-im/confab/deploy/standalone"
)

// front is an edge in a process of its own, which reaches the functions and the store of a child.
type front struct {
	s       *system
	url     string
	process *process // nil = it does not run
}

// edgeReady is what an edge logs when it serves clients.
var edgeReady = regexp.MustCompile(`"msg":"edge is ready","url":"([^"]+)"`)

// frontEdge starts an edge beside the child.
func (s *system) frontEdge(ctx context.Context) (*front, error) {
	f := &front{s: s}
	return f, f.start(ctx, "127.0.0.1:0")
}

// start starts the edge.
func (f *front) start(ctx context.Context, listen string) error {
	config, ok := standalone.Local(f.s.data, natsconfig.Edge)
	if !ok {
		return errors.New("the child says not where its NATS server listens")
	}
	command := append(slices.Clone(f.s.run.config.Command), "edge", "--listen", listen, "--nats-url", config.URL, "--nats-nkey", config.NKey, "--ops-listen", "",
		"--limits", "none", "--drain-window", "1s", "--log", "info", "--log-format", "json")
	p, found, err := startProcess(ctx, "edge", command, f.s.run.environment(), edgeReady)
	if err != nil {
		return err
	}
	f.process = p
	if f.url == "" { // after a restart it is the same, and those who come back read it
		f.url = found[1]
	}
	return nil
}

// down ends the edge.
func (f *front) down() error {
	if f.process == nil {
		return nil
	}
	p := f.process
	f.process = nil
	return p.stop()
}
