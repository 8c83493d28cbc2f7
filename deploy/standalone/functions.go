package standalone

import (
	"context"
	"errors"
	"fmt"

	"github.com/confab-im/confab/deploy/process"
	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/functions/auth"
	"github.com/confab-im/confab/functions/conversations"
	"github.com/confab-im/confab/functions/history"
	"github.com/confab-im/confab/functions/presence"
	"github.com/confab-im/confab/functions/receipts"
	"github.com/confab-im/confab/functions/send"
)

// knownTails is how many tails of conversations are remembered where one instance sends for all: some 40 MB when all of them are in use. One that is not
// remembered is read before a message is appended.
const knownTails = 64 << 10

// parts returns every function of the all-in-one.
func (s *system) parts() []functions.Function {
	return []functions.Function{
		auth.Function(s.config.Auth),
		send.Function(send.Config{Tails: knownTails}),
		history.Function(history.Config{}),
		conversations.Function(conversations.Config{}),
		receipts.Function(receipts.Config{}),
		presence.Function(presence.Config{}),
	}
}

// start runs the functions until stop: confab's own in this process or, with all others, as child processes.
func (s *system) start(ctx context.Context) error {
	entries, err := s.entries()
	if err != nil {
		return err
	}
	ctx, s.cancel = context.WithCancel(ctx)
	s.failed = make(chan error, 1)
	if s.config.Functions == PlaceInside {
		for _, f := range s.parts() {
			s.running = append(s.running, s.run(ctx, "function "+string(f.Name), func() error { return s.runFunction(ctx, f) }))
		}
	}
	if len(entries) > 0 {
		var children context.Context // ends first
		children, s.dismiss = context.WithCancel(ctx)
		s.children = s.run(children, "supervisor", func() error { return s.supervise(children, entries) })
	}
	return nil
}

// run runs a part until ctx ends; should it end by itself, the whole ends.
func (s *system) run(ctx context.Context, name string, part func() error) (result <-chan error) {
	ended := make(chan error, 1)
	go func() {
		err := part()
		if ctx.Err() == nil {
			select {
			case s.failed <- fmt.Errorf("%s ended: %w", name, err):
			default: // another one failed first, and its error ends the whole
			}
		}
		ended <- err
	}()
	return ended
}

func (s *system) runFunction(ctx context.Context, f functions.Function) error {
	nc, _, err := s.connect(string(f.Name))
	if err != nil {
		return err
	}
	defer nc.Close()
	caller, err := functions.NewCaller(nc, s.log)
	if err != nil {
		return err
	}
	defer caller.Close()
	return functions.Run(ctx, f, functions.Env{NATS: nc, Log: s.log, Caller: caller}, functions.Options{Version: process.Version()})
}

// stop drains the functions, those in child processes first: they may call the ones in here, which know nothing of them.
func (s *system) stop() error {
	var errs []error
	if s.children != nil {
		s.dismiss()
		errs = append(errs, <-s.children)
	}
	s.cancel()
	for _, ended := range s.running {
		errs = append(errs, <-ended)
	}
	return errors.Join(errs...)
}
