// Package lab runs confab under faults: it starts the real program through its public command, has people chat over the public protocol, breaks
// what can break on one machine, and writes down what everybody saw. It judges nothing; package check does.
package lab

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/confab-im/confab/deploy/faultlab/history"
	"github.com/confab-im/confab/edge/client"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// Config says what is run for how long. Command and Data have no default.
type Config struct {
	Command []string      // the program and its first arguments, such as confab up; flags are added
	Data    string        // an empty directory for the store
	Seed    uint64        // of all chance; the same seed gives the same faults at about the same times
	Lasts   time.Duration // of the faults; default a minute
	People  int           // who chat, two devices each; default 4, at least 3
	Faults  []string      // names of faults; default all
	Log     io.Writer     // what the program logs, and a line for each fault; default nowhere
}

// Times of a run.
const (
	calm        = 3 * time.Second // before the first fault, and from one to the next at most
	quietWithin = 2 * time.Minute // after the last fault, until nobody has anything left to send or to read
	password    = "correct horse battery staple"
)

// Lab is one run.
type Lab struct {
	config     Config
	history    *history.Writer
	system     *system
	random     *rand.Rand
	people     []*person
	duplicates atomic.Int64 // acknowledgements of an earlier try
	owner      *person      // who makes groups, adds and removes
	guest      *person      // who is added and removed all the time
	rooms      []subjects.Conversation
}

// The conversations of a run, beside the direct ones.
const (
	lobby    subjects.Conversation = "g.lobby" // of everybody
	revolver subjects.Conversation = "g.revolver"
)

// Run runs confab under faults and writes the history to out. An error means that the run could not be carried out, or that the program ended
// by itself: not that a promise was broken, which is for the checker to find.
func Run(ctx context.Context, config Config, out io.Writer) (err error) {
	config.Lasts = cmp.Or(config.Lasts, time.Minute)
	config.People = max(3, cmp.Or(config.People, 4))
	if config.Log == nil {
		config.Log = io.Discard
	}
	config.Log = &shared{out: config.Log}
	chosen, err := chosenFaults(config.Faults)
	if err != nil {
		return err
	}
	front, err := newProxy()
	if err != nil {
		return err
	}
	defer front.close()
	l := &Lab{config: config, history: history.NewWriter(out), random: rand.New(rand.NewPCG(config.Seed, 0))}
	defer func() { err = errors.Join(err, l.history.Flush()) }()
	l.system = &system{command: config.Command, data: config.Data, log: config.Log, history: l.history, front: front}
	if err := l.system.start(ctx); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			l.system.kill()
		}
	}()
	if err := l.gather(ctx); err != nil {
		return err
	}
	defer func() {
		for _, p := range l.people {
			_ = p.client.Close()
		}
	}()
	if err := l.chat(ctx, chosen); err != nil {
		return err
	}
	if err := l.tellTruth(ctx); err != nil {
		return err
	}
	l.probe()
	return l.system.stop()
}

// gather registers everybody, connects their devices and makes the conversations.
func (l *Lab) gather(ctx context.Context) error {
	url := "http://" + l.system.front.address()
	var users []subjects.User
	for i := range l.config.People {
		user := subjects.User(fmt.Sprintf("p%d", i))
		users = append(users, user)
		if _, err := client.Register(ctx, url, wire.Register{User: user, Password: password}); err != nil {
			return fmt.Errorf("register %s: %w", user, err)
		}
		for _, device := range []subjects.Device{"desk", "phone"} {
			p := &person{lab: l, user: user, device: device, seen: map[subjects.Conversation]wire.Seq{}, random: rand.New(rand.NewPCG(l.config.Seed, uint64(len(l.people)+1)))}
			var err error
			if p.client, err = client.Dial(ctx, url, client.WithPassword(user, password), client.WithDevice(device), client.WithOnEvent(p.observe)); err != nil {
				return fmt.Errorf("connect %s: %w", user, err)
			}
			l.people = append(l.people, p)
		}
	}
	l.owner, l.guest = l.people[0], l.people[len(l.people)-1]
	for _, room := range []subjects.Conversation{lobby, revolver} {
		id := strings.TrimPrefix(string(room), "g.")
		if _, err := l.owner.client.Create(ctx, wire.Create{Kind: subjects.KindGroup, ID: id, Title: id, Members: users[1:]}); err != nil {
			return fmt.Errorf("make %s: %w", room, err)
		}
		for _, u := range users {
			l.history.Add(history.Record{Kind: history.Founder, User: u, Conversation: room})
		}
	}
	l.rooms = []subjects.Conversation{lobby, revolver}
	for i := range len(users) - 1 {
		direct, err := subjects.Direct(users[i], users[i+1])
		if err != nil {
			return err
		}
		l.rooms = append(l.rooms, direct)
	}
	for _, p := range l.people {
		if _, err := p.client.Watch(ctx, users...); err != nil {
			return fmt.Errorf("watch presence: %w", err)
		}
	}
	return nil
}

// of returns the conversations of a user.
func (l *Lab) of(u subjects.User) []subjects.Conversation {
	var list []subjects.Conversation
	for _, c := range l.rooms {
		if _, peer := c.Peer(u); peer || c.Kind() == subjects.KindGroup {
			list = append(list, c)
		}
	}
	return list
}

// chat has everybody talk and read while faults come, and returns when all is quiet.
func (l *Lab) chat(ctx context.Context, faults []fault) error {
	talking, hush := context.WithCancel(ctx)
	defer hush()
	reading, stopReading := context.WithCancel(ctx)
	defer stopReading()
	finishing, giveUp := context.WithCancel(ctx)
	defer giveUp()
	var talkers, readers sync.WaitGroup
	failures := make(chan error, len(l.people)*len(l.rooms))
	for _, p := range l.people {
		talkers.Go(func() { p.talk(talking, finishing, l.of(p.user)) })
		for _, c := range l.of(p.user) {
			readers.Go(func() {
				if err := p.read(reading, c); err != nil {
					failures <- err
				}
			})
		}
	}
	talkers.Go(func() { l.revolve(talking, finishing) })
	sleep(ctx, calm)
	l.probe()
	err := l.breakThings(ctx, faults)
	hush()
	timer := time.AfterFunc(quietWithin, giveUp)
	defer timer.Stop()
	talkers.Wait()
	if err == nil && l.caughtUp(finishing) {
		l.history.Add(history.Record{Kind: history.Quiet})
	}
	stopReading()
	readers.Wait()
	close(failures)
	for failure := range failures {
		err = errors.Join(err, failure)
	}
	return err
}

// breakThings injects one fault after the other until the time is over. It goes on for up to twice that time more while no fault has come between a
// store and its answer: until then the run could not have shown what a repeat does.
func (l *Lab) breakThings(ctx context.Context, faults []fault) error {
	end := time.Now().Add(l.config.Lasts)
	for i := 0; ctx.Err() == nil; i++ {
		if now := time.Now(); now.After(end) && (l.duplicates.Load() > 0 || now.After(end.Add(2*l.config.Lasts))) {
			return nil
		}
		f := faults[i%len(faults)] // every kind comes before any comes again
		fmt.Fprintf(l.config.Log, "fault: %s\n", f.name)
		l.history.Add(history.Record{Kind: history.Fault, Fault: f.name, Process: name})
		if err := f.inject(ctx, l); err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
		l.history.Add(history.Record{Kind: history.Heal, Fault: f.name, Process: name})
		if err := l.system.alive(); err != nil {
			return err
		}
		sleep(ctx, time.Second+time.Duration(l.random.Int64N(int64(calm-time.Second))))
	}
	return ctx.Err()
}

// probe records the memory of the program, where the kernel tells it.
func (l *Lab) probe() {
	if bytes, err := l.system.resident(); err == nil {
		l.history.Add(history.Record{Kind: history.Probe, Process: name, Bytes: bytes})
	}
}

// revolve removes the guest's user from a group and takes it in again, over and over, while both devices of the guest talk and read there.
func (l *Lab) revolve(ctx, done context.Context) {
	for ctx.Err() == nil {
		l.change(done, wire.ChangeRemoved, l.owner.client.Remove)
		sleep(ctx, 100*time.Millisecond)
		l.change(done, wire.ChangeAdded, l.owner.client.Add)
		sleep(ctx, 300*time.Millisecond)
	}
}

// change repeats a change of the guest's membership until it is acknowledged: it says what should be, so a repeat does no harm.
func (l *Lab) change(done context.Context, change wire.MemberChange, call func(context.Context, wire.MemberUpdate) (wire.Changed, error)) {
	for done.Err() == nil {
		ctx, cancel := context.WithTimeout(done, tryWithin)
		changed, err := call(ctx, wire.MemberUpdate{Conversation: revolver, User: l.guest.user})
		cancel()
		if code := wire.CodeOf(err); err == nil || code == wire.NotFound || code == wire.Conflict { // it is so already
			if err == nil {
				l.history.Add(history.Record{Kind: history.Member, User: l.guest.user, Conversation: revolver, Change: change, Seq: changed.Seq})
			}
			return
		}
		sleep(done, tryPause)
	}
}

// shared lets the program and the run write to one log.
type shared struct {
	mu  sync.Mutex
	out io.Writer
}

// Write writes to the log.
func (s *shared) Write(data []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.out.Write(data)
}
