// Package lab runs confab under faults: it starts the real program through its public command, has people chat over the public protocol, breaks
// what can break on one machine, and writes down what everybody saw. It judges nothing; package check does.
package lab

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/confab-im/confab/deploy/faultlab/history"
	"github.com/confab-im/confab/edge/client"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// Config says what is run for how long. Program and Data have no default.
type Config struct {
	Program  string        // the executable of confab
	Topology Topology      // default One
	Data     string        // an empty directory for the stores and the keys
	Sync     Sync          // default SyncAlways
	Seed     uint64        // of all chance; the same seed gives the same faults at about the same times
	Lasts    time.Duration // of the faults; default a minute
	People   int           // who chat, two devices each; default 4, at least 3
	Faults   []string      // names of faults; default all that the topology can have and that need not be named; none = none
	ByChance bool          // faults are drawn by chance, where otherwise every kind comes before any comes again
	Beside   []string      // names of what more people do beside chatting; default nothing
	Missed   int           // messages that are written while somebody of the workload diary is away; default 10,000
	Log      io.Writer     // what the programs log, and a line for each fault; default nowhere
}

// Sync says when servers have what they acknowledge on disk.
type Sync string

// The values of Sync.
const (
	SyncAlways  Sync = "always"  // before they acknowledge it
	SyncDefault Sync = "default" // some minutes later: a power cut may lose what was acknowledged
)

// Times of a run.
const (
	calm         = 3 * time.Second // before the first fault, and from one to the next at most
	exposeWithin = 2 * time.Minute // after the time that was asked for, until faults must have hit what they are meant to
	quietWithin  = 2 * time.Minute // after the last fault, until nobody has anything left to send or to read
	password     = "correct horse battery staple"
)

// Lab is one run.
type Lab struct {
	config     Config
	history    *history.Writer
	system     *system
	random     *rand.Rand // of the faults
	people     []*person
	duplicates atomic.Int64 // acknowledgements of an earlier try
	owner      *person      // who makes groups, adds and removes
	guest      *person      // who is added and removed all the time
	rooms      []subjects.Conversation
	halls      []subjects.Conversation // where the people of workloads are
	recruits   []*person               // who is there
	disks      []*disk                 // none = the data is where all other files are
	swallows   swallows
	silent     uint64 // messages in the conversation that is silent otherwise
}

// The conversations of a run, beside the direct ones.
const (
	lobby    subjects.Conversation = "g.lobby" // of everybody
	revolver subjects.Conversation = "g.revolver"
	silence  subjects.Conversation = "g.silence" // where nobody talks but a fault
)

// Run runs confab under faults and writes the history to out. An error means that the run could not be carried out, or that a program ended by itself: not that
// a promise was broken, which is for the checker to find.
func Run(ctx context.Context, config Config, out io.Writer) (err error) {
	l, err := newLab(config, out)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.history.Flush()) }()
	running, end := context.WithCancel(ctx)
	defer func() { err = errors.Join(err, l.closeDisks()) }()
	defer l.system.close()
	defer end()
	beside, err := chosenWorkloads(config.Beside)
	if err != nil {
		return err
	}
	if err := l.openDisks(); err != nil {
		return err
	}
	chosen, err := l.layOut()
	if err != nil {
		return err
	}
	if err := l.system.start(running); err != nil {
		return errors.Join(err, l.system.broken())
	}
	if len(l.disks) > 0 {
		var watching sync.WaitGroup
		watching.Go(func() { l.watchReadiness(running) })
		defer watching.Wait()
		defer end()
	}
	if err := l.gather(ctx); err != nil {
		return err
	}
	works, err := l.prepare(ctx, beside)
	defer func() {
		for _, p := range slices.Concat(l.people, l.recruits) {
			_ = p.client.Close()
		}
	}()
	if err != nil {
		return err
	}
	if err := l.syncDisks(); err != nil {
		return err
	}
	if err := l.chat(ctx, chosen, works); err != nil {
		return err
	}
	if err := l.tellTruth(ctx); err != nil {
		return err
	}
	l.probe()
	return errors.Join(l.system.stop(ctx), l.system.broken())
}

// Check returns an error that says which of these cannot be run; empty ones count as their defaults.
func Check(topology Topology, sync Sync, faults, beside []string) error {
	topology, sync = cmp.Or(topology, One), cmp.Or(sync, SyncAlways)
	if topologies[topology] == nil {
		return fmt.Errorf("%q is no topology; there are %v", topology, slices.Sorted(maps.Keys(topologies)))
	}
	if sync != SyncAlways && sync != SyncDefault {
		return fmt.Errorf("sync %q is neither %s nor %s", sync, SyncAlways, SyncDefault)
	}
	for _, name := range faults {
		if name == noFaults && len(faults) == 1 {
			break
		}
		if !slices.ContainsFunc(allFaults, func(f fault) bool { return f.called(name) }) {
			return fmt.Errorf("%q is no fault; there are %s", name, faultNames(allFaults))
		}
	}
	_, err := chosenWorkloads(beside)
	return err
}

func newLab(config Config, out io.Writer) (*Lab, error) {
	if err := Check(config.Topology, config.Sync, config.Faults, config.Beside); err != nil {
		return nil, err
	}
	config.Topology = cmp.Or(config.Topology, One)
	config.Sync = cmp.Or(config.Sync, SyncAlways)
	config.Lasts = cmp.Or(config.Lasts, time.Minute)
	config.Missed = cmp.Or(config.Missed, missedDefault)
	config.People = max(3, cmp.Or(config.People, 4))
	if config.Log == nil {
		config.Log = io.Discard
	}
	config.Log = &shared{out: config.Log}
	l := &Lab{config: config, history: history.NewWriter(out), random: rand.New(rand.NewPCG(config.Seed, 0))}
	l.system = &system{lab: l}
	return l, nil
}

// layOut decides what runs, and which faults it gets.
func (l *Lab) layOut() ([]fault, error) {
	if err := topologies[l.config.Topology](l.system); err != nil {
		return nil, err
	}
	return chosenFaults(l.config.Faults, l.system)
}

// url returns where the clients of a number connect.
func (l *Lab) url(number int) string {
	return "http://" + l.system.fronts[number%len(l.system.fronts)].address()
}

// gather registers everybody, connects their devices and makes the conversations.
func (l *Lab) gather(ctx context.Context) error {
	var users []subjects.User
	for i := range l.config.People {
		user := subjects.User(fmt.Sprintf("p%d", i))
		users = append(users, user)
		if _, err := client.Register(ctx, l.url(0), wire.Register{User: user, Password: password}); err != nil {
			return fmt.Errorf("register %s: %w", user, err)
		}
		for _, device := range []subjects.Device{"desk", "phone"} {
			number := len(l.people)
			p := &person{lab: l, user: user, device: device, seen: map[subjects.Conversation]wire.Seq{}, random: rand.New(rand.NewPCG(l.config.Seed, uint64(number+1)))}
			var err error
			if p.client, err = client.Dial(ctx, l.url(number), client.WithPassword(user, password), client.WithDevice(device), client.WithOnEvent(p.observe)); err != nil {
				return fmt.Errorf("connect %s: %w", user, err)
			}
			l.people = append(l.people, p)
		}
	}
	l.owner, l.guest = l.people[0], l.people[len(l.people)-1]
	l.rooms = []subjects.Conversation{lobby, revolver, silence}
	for _, room := range l.rooms {
		id := strings.TrimPrefix(string(room), "g.")
		if _, err := l.owner.client.Create(ctx, wire.Create{Kind: subjects.KindGroup, ID: id, Title: id, Members: users[1:]}); err != nil {
			return fmt.Errorf("make %s: %w", room, err)
		}
		for _, u := range users {
			l.history.Add(history.Record{Kind: history.Founder, User: u, Conversation: room})
		}
	}
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
func (l *Lab) chat(ctx context.Context, faults []fault, works []work) error {
	talking, hush := context.WithCancel(ctx)
	defer hush()
	reading, stopReading := context.WithCancel(ctx)
	defer stopReading()
	finishing, giveUp := context.WithCancel(ctx)
	defer giveUp()
	var talkers, readers sync.WaitGroup
	failures := make(chan error, len(l.people)*len(l.rooms)+len(works))
	for _, p := range l.people {
		talkers.Go(func() {
			p.talk(talking, finishing, slices.DeleteFunc(l.of(p.user), func(c subjects.Conversation) bool { return c == silence }))
		})
		for _, c := range l.of(p.user) {
			readers.Go(func() {
				if err := p.read(reading, c); err != nil {
					failures <- err
				}
			})
		}
	}
	talkers.Go(func() { l.revolve(talking, finishing) })
	for _, w := range works {
		talkers.Go(func() {
			if err := w(talking, finishing); err != nil {
				failures <- err
			}
		})
	}
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

// breakThings injects one fault after the other until the time is over. It goes on for a while while the faults have not hit what they were
// meant to: until then the run could not have shown what a repeat does, or a reconnect.
func (l *Lab) breakThings(ctx context.Context, faults []fault) error {
	if len(faults) == 0 {
		sleep(ctx, l.config.Lasts)
		return ctx.Err()
	}
	end := time.Now().Add(l.config.Lasts)
	next := order(faults, l.config.ByChance, l.random)
	meant := map[history.Exposure]bool{}
	for ctx.Err() == nil {
		if now := time.Now(); now.After(end) && (l.exposed(meant) || now.After(end.Add(exposeWithin))) {
			return nil
		}
		f := next()
		meant[f.exposes] = true
		fmt.Fprintf(l.config.Log, "fault: %s\n", f.name)
		l.history.Add(history.Record{Kind: history.Fault, Fault: f.name, Exposes: f.exposes})
		if err := f.inject(ctx, l); err != nil {
			return errors.Join(fmt.Errorf("%s: %w", f.name, err), l.system.broken())
		}
		l.history.Add(history.Record{Kind: history.Heal, Fault: f.name})
		if err := l.system.broken(); err != nil {
			return err
		}
		sleep(ctx, time.Second+time.Duration(l.random.Int64N(int64(calm-time.Second))))
	}
	return ctx.Err()
}

// exposed reports whether all that faults were meant to hit was hit.
func (l *Lab) exposed(meant map[history.Exposure]bool) bool {
	switch {
	case (meant[history.Repeats] || meant[history.Reconnects]) && l.duplicates.Load() == 0:
		return false
	case meant[history.Reconnects]:
		return !slices.ContainsFunc(slices.Concat(l.people, l.recruits), func(p *person) bool { return p.connects.Load() < 2 })
	}
	return true
}

// probe records the memory of all processes, where the kernel tells it.
func (l *Lab) probe() {
	for _, p := range l.system.parts {
		if bytes, err := p.resident(); err == nil {
			l.history.Add(history.Record{Kind: history.Probe, Process: p.name, Bytes: bytes})
		}
	}
}

// revolve removes the guest's user from a group and takes it in again, over and over, while both devices of the guest talk and read there.
func (l *Lab) revolve(ctx, done context.Context) {
	for ctx.Err() == nil {
		l.change(done, revolver, l.guest.user, wire.ChangeRemoved, l.owner.client.Remove)
		sleep(ctx, 100*time.Millisecond)
		l.change(done, revolver, l.guest.user, wire.ChangeAdded, l.owner.client.Add)
		sleep(ctx, 300*time.Millisecond)
	}
}

// change repeats a change of a membership until it is acknowledged: it says what should be, so a repeat does no harm.
func (l *Lab) change(done context.Context, room subjects.Conversation, user subjects.User, change wire.MemberChange,
	call func(context.Context, wire.MemberUpdate) (wire.Changed, error)) {
	for done.Err() == nil {
		ctx, cancel := context.WithTimeout(done, tryWithin)
		l.history.Add(history.Record{Kind: history.Asked, User: user, Conversation: room, Change: change})
		changed, err := call(ctx, wire.MemberUpdate{Conversation: room, User: user})
		cancel()
		if code := wire.CodeOf(err); err == nil || code == wire.NotFound || code == wire.Conflict { // it is so already
			if err == nil {
				l.history.Add(history.Record{Kind: history.Member, User: user, Conversation: room, Change: change, Seq: changed.Seq})
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
