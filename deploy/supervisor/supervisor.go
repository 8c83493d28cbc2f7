package supervisor

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/deploy/load"
	"github.com/confab-im/confab/deploy/manifest"
	"github.com/confab-im/confab/deploy/process"
	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// DefaultIdle is after how much time without calls an instance leaves, where Config does not say.
const DefaultIdle = time.Minute

// Entry is one function that is run as child processes.
type Entry struct {
	manifest.Supervised
	Command     []string // the program and its arguments; no secret belongs here, since everybody on the machine can read it
	Dir         string   // the working directory; "" = that of the supervisor
	Environment []string // NAME=value, in addition to what every child gets
}

// Config is what a supervisor works with.
type Config struct {
	NATS        *nats.Conn    // its own connection, which stays the program's
	Log         *slog.Logger  // nil = nothing is logged
	IdleTimeout time.Duration // after which an instance beyond the least number leaves; 0 = DefaultIdle
	Environment []string      // NAME=value for every child: how it reaches NATS, what it logs
}

// Run runs the functions of entries as child processes until ctx ends; then it asks the children to end, those first whom nobody calls any more, and
// returns when none is left. What is wrong with a function is logged, said to callers, and never ends the others; an error means that
// the supervisor itself could not start. Children end with this process, however it ends.
func Run(ctx context.Context, config Config, entries []Entry) error {
	if config.Log == nil {
		config.Log = slog.New(slog.DiscardHandler)
	}
	config.IdleTimeout = cmp.Or(config.IdleTimeout, DefaultIdle)
	for _, e := range entries {
		if len(e.Command) == 0 {
			return fmt.Errorf("function %s has no command", e.Function)
		}
	}
	watcher, err := load.New(config.NATS, config.Log)
	if err != nil {
		return err
	}
	defer watcher.Close()
	s := &supervisor{Config: config, watcher: watcher, starter: newStarter(), keepers: map[subjects.Function]*keeper{}}
	defer s.starter.close()
	for _, e := range entries {
		if s.keepers[e.Function] != nil {
			return fmt.Errorf("function %s is there twice", e.Function)
		}
		s.keepers[e.Function] = newKeeper(s, e)
	}
	stopHearing, err := s.hear()
	if err != nil {
		return err
	}
	defer stopHearing()
	s.keep(ctx, entries)
	return nil
}

// supervisor is what the keepers share.
type supervisor struct {
	Config
	watcher *load.Watcher
	starter *starter
	keepers map[subjects.Function]*keeper
}

// keep runs a keeper for each function until ctx ends, and then ends them wave by wave: a function outlives those that call it.
func (s *supervisor) keep(ctx context.Context, entries []Entry) {
	stop := map[subjects.Function]context.CancelFunc{}
	ended := map[subjects.Function]*sync.WaitGroup{}
	for f, k := range s.keepers {
		own, cancel := context.WithCancel(context.WithoutCancel(ctx))
		stop[f], ended[f] = cancel, &sync.WaitGroup{}
		ended[f].Go(func() { k.run(own) })
		if k.entry.Works {
			s.watcher.Count(own, f, s.backlog)
		}
	}
	<-ctx.Done()
	for _, wave := range waves(entries) {
		for _, f := range wave {
			stop[f]()
		}
		for _, f := range wave {
			ended[f].Wait()
		}
	}
}

func (s *supervisor) backlog(ctx context.Context, f subjects.Function) (int, error) {
	return jetstream.Backlog(ctx, s.NATS, f)
}

// waves returns the functions in the order of their end. None is in an earlier wave than one that calls it, unless they call each other.
func waves(entries []Entry) [][]subjects.Function {
	left := map[subjects.Function]Entry{}
	for _, e := range entries {
		left[e.Function] = e
	}
	var all [][]subjects.Function
	for len(left) > 0 {
		called := map[subjects.Function]bool{}
		for _, e := range left {
			for _, f := range e.Calls {
				called[f] = true
			}
		}
		var wave []subjects.Function
		for f := range left {
			if !called[f] {
				wave = append(wave, f)
			}
		}
		if wave == nil { // they call each other
			for f := range left {
				wave = append(wave, f)
			}
		}
		for _, f := range wave {
			delete(left, f)
		}
		slices.Sort(wave)
		all = append(all, wave)
	}
	return all
}

// heard is an up or a bye of an instance.
type heard struct {
	instance, unit string
	bye            bool
}

// hear tells the keepers what instances say, until the returned function is called.
func (s *supervisor) hear() (stop func(), err error) {
	said := make(chan *nats.Msg, 1024) // when it is full events are dropped, and the next beats mend that
	var subs []*nats.Subscription
	done := make(chan struct{})
	var wg sync.WaitGroup
	stop = func() {
		for _, sub := range subs {
			_ = sub.Unsubscribe() // fails only where the connection has forgotten it already
		}
		close(done)
		wg.Wait()
	}
	for _, verb := range []subjects.Verb{subjects.Up, subjects.Bye} {
		sub, err := s.NATS.ChanSubscribe(subjects.AllOf(verb), said)
		if err != nil {
			stop()
			return nil, fmt.Errorf("subscribe to %s: %w", verb, err)
		}
		subs = append(subs, sub)
	}
	wg.Go(func() {
		for {
			select {
			case <-done:
				return
			case msg := <-said:
				s.dispatch(msg)
			}
		}
	})
	return stop, nil
}

// dispatch passes an event on to the keeper of its function. What cannot be read, or speaks of another function than its subject, is ignored.
func (s *supervisor) dispatch(msg *nats.Msg) {
	var up wire.InstanceUp // a bye has a part of its fields
	if json.Unmarshal(msg.Data, &up) != nil || up.Instance == "" {
		return
	}
	k := s.keepers[up.Function]
	bye := msg.Subject == subjects.Scale(up.Function, subjects.Bye)
	if k == nil || !bye && msg.Subject != subjects.Scale(up.Function, subjects.Up) {
		return
	}
	select {
	case k.heard <- heard{up.Instance, up.Unit, bye}:
	case <-k.ended:
	}
}

// environment returns the environment of a child. What comes later counts for more.
func (s *supervisor) environment(e Entry, unit string, kept bool) []string {
	all := append(environ(), limits(e)...)
	all = append(all, s.Environment...)
	all = append(all, e.Environment...)
	all = append(all,
		process.EnvPrefix+"UNIT="+unit,
		process.EnvPrefix+"WITH_PARENT=true",
		fmt.Sprintf("%sCONCURRENCY=%d", process.EnvPrefix, e.Concurrency),
		process.EnvPrefix+"DRAIN_TIMEOUT="+e.Drain.String())
	if !kept {
		all = append(all, process.EnvPrefix+"IDLE_TIMEOUT="+s.IdleTimeout.String())
	}
	return all
}

// leastProcs is the least number of threads that run Go code at once: with a single one a long computation, such as the hash of a password, keeps an
// instance from saying that it is up and from answering others.
const leastProcs = 2

// limits returns what keeps the Go runtime of a child within the resources of its manifest. A tenth of the memory is left for what the
// runtime does not count.
func limits(e Entry) []string {
	all := []string{fmt.Sprintf("GOMAXPROCS=%d", max(leastProcs, (e.CPU+999)/1000))}
	if e.Memory > 0 {
		all = append(all, fmt.Sprintf("GOMEMLIMIT=%d", e.Memory-e.Memory/10))
	}
	return all
}

// ours reports whether a variable of the environment is a setting of confab.
func ours(pair string) bool { return strings.HasPrefix(pair, process.EnvPrefix) }
