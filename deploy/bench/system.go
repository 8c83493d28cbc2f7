package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/deploy/bench/floor"
	"github.com/confab-im/confab/deploy/natsconfig"
	settings "github.com/confab-im/confab/deploy/process"
	"github.com/confab-im/confab/deploy/standalone"
	"github.com/confab-im/confab/edge/client"
	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// system is the confab that is measured: a child of this process, or one elsewhere.
type system struct {
	run     *run
	url     string
	process *process // nil = elsewhere, so its processor time is unknown
	data    string
	flags   []string
	always  bool // the child syncs before it acknowledges

	nc     *nats.Conn // as the operator of the child
	caller *functions.Caller
	spare  []string // tokens that were given and nobody has yet
	people []person
}

// person is somebody who can sign in.
type person struct {
	user  subjects.User
	token string
}

// What the child prints when it serves, without and with a listener for profiles.
var (
	banner         = regexp.MustCompile(`Open +(https?://[^/\s]+)/`)
	profiledBanner = regexp.MustCompile(`(?s)Open +(https?://[^/\s]+)/.*Profile +(http://\S+)/debug/`)
)

// up returns the confab to measure: one that is started with more flags on a directory of its own, or the one elsewhere.
func (r *run) up(ctx context.Context, flags ...string) (*system, error) {
	return r.upTo(ctx, r.syncAlways(), flags...)
}

// prepare is up with a child that does not sync what it stores, so that many people and messages are soon made; asked then has it sync as the run wants.
func (r *run) prepare(ctx context.Context, flags ...string) (*system, error) {
	return r.upTo(ctx, false, flags...)
}

func (r *run) upTo(ctx context.Context, always bool, flags ...string) (*system, error) {
	s := &system{run: r, url: r.config.URL, spare: slices.Clone(r.config.Tokens), always: always}
	if s.url != "" {
		return s, nil
	}
	s.data = r.directory("confab")
	s.flags = append([]string{"--nats-listen", "127.0.0.1:0", "--ops-listen", "", "--data", s.data, "--limits", "none", "--registration", "open"}, flags...)
	return s, s.start(ctx, "127.0.0.1:0")
}

// asked restarts a child that was prepared, if the run wants it to sync. Nobody may be connected.
func (s *system) asked(ctx context.Context) error {
	if s.process == nil || s.always == s.run.syncAlways() {
		return nil
	}
	s.always = s.run.syncAlways()
	return s.afresh(ctx)
}

// afresh restarts the child, so that nothing of the preparation is in its memory. Nobody may be connected.
func (s *system) afresh(ctx context.Context) error {
	if s.process == nil {
		return nil
	}
	s.run.say("restarting what was prepared")
	if err := s.down(); err != nil {
		return err
	}
	return s.start(ctx, "127.0.0.1:0")
}

// start starts the child.
func (s *system) start(ctx context.Context, listen string) error {
	command := append(slices.Clone(s.run.config.Command), "up", "--listen", listen)
	if !s.always {
		command = append(command, "--profile", string(standalone.ProfileFast))
	}
	ready := banner
	if s.run.config.Profile != "" {
		command, ready = append(command, "--pprof", "127.0.0.1:0"), profiledBanner
	}
	p, found, err := startProcess(ctx, "confab", append(command, s.flags...), s.run.environment(), ready)
	if err != nil {
		return err
	}
	s.process = p
	if len(found) > 2 {
		p.profiles = &profiles{run: s.run, url: found[2]}
	}
	if s.url != found[1] { // after a restart it is the same, and those who come back read it
		s.url = found[1]
	}
	return s.operate()
}

// quiet is the log of connections to a child.
var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// operate connects to the child as its operator, who makes tokens without a password.
func (s *system) operate() (err error) {
	config, ok := standalone.Local(s.data, natsconfig.Operator)
	if !ok {
		return errors.New("the child says not where its NATS server listens")
	}
	if s.nc, _, err = config.Connect("confab-bench", quiet); err != nil {
		return err
	}
	s.caller, err = functions.NewCaller(s.nc, quiet)
	return err
}

// down ends the child.
func (s *system) down() error {
	if s.caller != nil {
		s.caller.Close()
		s.nc.Close()
		s.caller = nil
	}
	if s.process == nil {
		return nil
	}
	p := s.process
	s.process = nil
	return p.stop()
}

// watched returns the processes whose processor time counts.
func (s *system) watched() []*process {
	if s.process == nil {
		return nil
	}
	return []*process{s.process}
}

// atOnce is how many people sign up or connect at once while a scenario is prepared.
const atOnce = 64

// gather returns n people, who are made where they are not there yet.
func (s *system) gather(ctx context.Context, n int) ([]person, error) {
	have := len(s.people)
	if have >= n {
		return s.people[:n], nil
	}
	if s.spare != nil && n > len(s.spare) {
		return nil, fmt.Errorf("%d people are needed and %d tokens were given", n, len(s.spare))
	}
	s.people = append(s.people, make([]person, n-have)...)
	err := parallel(ctx, n-have, func(i int) error {
		s.run.step(fmt.Sprintf("making %d people", n))
		return patiently(ctx, func() (err error) {
			s.people[have+i], err = s.make(ctx, have+i)
			return err
		})
	})
	return s.people, err
}

// make makes one person: by the token that was given, as the operator, or as everybody signs up.
func (s *system) make(ctx context.Context, i int) (person, error) {
	name := subjects.User(fmt.Sprintf("b%s-%06d", s.run.mark, i))
	switch {
	case s.spare != nil:
		return s.known(ctx, s.spare[i])
	case s.caller != nil:
		return s.issue(ctx, name)
	}
	tokens, err := client.Register(ctx, s.url, wire.Register{User: name, Password: "correct horse battery " + s.run.mark, Invite: s.run.config.Invite})
	return person{name, tokens.Token}, err
}

// issue gives somebody a token as the operator does, and makes him where there is nobody of that name.
func (s *system) issue(ctx context.Context, name subjects.User) (person, error) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	tokens, err := functions.Invoke[wire.Issue, wire.Tokens](ctx, s.caller, nil, "auth", "issue", wire.Issue{User: name, Create: true, TTLMS: tokenLife.Milliseconds()})
	return person{name, tokens.Token}, err
}

// renew gives the first n people tokens that no edge has seen: one that it has seen within a minute an edge does not have checked again. Only an operator can.
func (s *system) renew(ctx context.Context, n int) error {
	if s.caller == nil {
		return nil
	}
	return parallel(ctx, n, func(i int) error {
		s.run.step("giving new tokens")
		return patiently(ctx, func() (err error) {
			s.people[i], err = s.issue(ctx, s.people[i].user)
			return err
		})
	})
}

// novelty says of tokens that were renewed what an edge knows of them.
func (s *system) novelty() string {
	if s.caller == nil {
		return "the edge may have seen before"
	}
	return "the edge has not seen before and auth has signed lately"
}

// Times of the preparation.
const (
	answerWithin = time.Minute
	tokenLife    = 12 * time.Hour
)

// patiently repeats what is prepared, for a minute, while nobody knows whether it was done, or nobody could be reached: what is made here may be made twice.
func patiently(ctx context.Context, do func() error) error {
	for end := time.Now().Add(answerWithin); ; {
		err := do()
		if err == nil || refused(err) || time.Now().After(end) || ctx.Err() != nil {
			return err
		}
		wait(ctx, 500*time.Millisecond)
	}
}

// refused reports whether an error is an answer that says that nothing was done.
func refused(err error) bool {
	_, answered := errors.AsType[*wire.Error](err)
	return answered && !unknown(err)
}

// unknown reports whether an error is an answer that leaves open what became of a call.
func unknown(err error) bool {
	e, answered := errors.AsType[*wire.Error](err)
	return answered && (e.Code == wire.Unavailable || e.Code == wire.Timeout || e.Code == wire.StorageUnavailable || e.Code == wire.Internal)
}

// known asks whose a token is.
func (s *system) known(ctx context.Context, token string) (person, error) {
	c, err := s.connect(ctx, person{token: token}, "bench-ask")
	if err != nil {
		return person{}, err
	}
	defer c.close()
	return person{c.welcome.User, token}, nil
}

// connect opens the connection of one device.
func (s *system) connect(ctx context.Context, p person, device subjects.Device) (*socket, error) {
	return s.connectAs(ctx, p, device, nil)
}

// connectAs is connect with what is called for every event.
func (s *system) connectAs(ctx context.Context, p person, device subjects.Device, heard func(wire.Event, []byte)) (*socket, error) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	c, err := s.run.dial(ctx, s.url, "/v1/ws", heard)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	if err := c.hello(ctx, p.token, device); err != nil {
		c.close()
		return nil, fmt.Errorf("sign in: %w", err)
	}
	return c, nil
}

// floorReady is what a floor prints when it serves.
var floorReady = regexp.MustCompile(regexp.QuoteMeta(floor.Ready) + `(\S+)\n`)

// floor starts a floor as a child and returns where it listens.
func (r *run) floor(ctx context.Context, args ...string) (*process, string, error) {
	p, found, err := startProcess(ctx, "floor", append(append(slices.Clone(r.config.Command), "bench", "floor"), args...), r.environment(), floorReady)
	if err != nil {
		return nil, "", err
	}
	return p, found[1], nil
}

// streams starts the floor of bare streams, and connects to it.
func (r *run) streams(ctx context.Context) (*process, *nats.Conn, error) {
	p, url, err := r.floor(ctx, "streams", "--data", r.directory("floor"), "--sync", r.config.Sync)
	if err != nil {
		return nil, nil, err
	}
	nc, err := nats.Connect(url, nats.MaxReconnects(0), nats.Timeout(answerWithin))
	if err != nil {
		p.kill()
		return nil, nil, err
	}
	return p, nc, nil
}

// directory returns a name for a directory of its own within that of the run.
func (r *run) directory(name string) string {
	r.made++
	dir := filepath.Join(r.dir, fmt.Sprintf("%02d-%s", r.made, name))
	_ = os.Mkdir(dir, 0o700) // whoever uses it says why it cannot be used
	return dir
}

// parallel does n things, some at once, and returns the first error; the others are then left out.
func parallel(ctx context.Context, n int, do func(i int) error) error {
	return parallelBy(ctx, atOnce, n, do)
}

// parallelBy is parallel with as many at once as are given.
func parallelBy(ctx context.Context, workers, n int, do func(i int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	next := make(chan int)
	var all sync.WaitGroup
	for range min(n, workers) {
		all.Go(func() {
			for i := range next {
				if err := do(i); err != nil {
					cancel(err)
				}
			}
		})
	}
	for i := 0; i < n && ctx.Err() == nil; i++ {
		select {
		case next <- i:
		case <-ctx.Done():
		}
	}
	close(next)
	all.Wait()
	return context.Cause(ctx)
}

// environment returns that of children: this process's own without the settings of confab, which are for this command, and what the scenario adds.
func (r *run) environment() []string {
	ours := func(variable string) bool { return strings.HasPrefix(variable, settings.EnvPrefix) }
	return append(slices.DeleteFunc(os.Environ(), ours), r.extra...)
}
