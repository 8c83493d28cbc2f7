package lab

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"

	"github.com/confab-im/confab/deploy/faultlab/history"
	"github.com/confab-im/confab/edge/client"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// workload is what some people do beside those who chat, in a conversation of their own.
type workload struct {
	name    string
	prepare func(ctx context.Context, l *Lab) (work, error) // before anything breaks
}

// work goes on until ctx ends; what is under way then is finished, until done ends. An error means that the run cannot go on.
type work func(ctx, done context.Context) error

// workloads is all of them.
var workloads = []workload{
	{"races", prepareRaces},
	{"revocations", prepareRevocations},
	{"marks", prepareMarks},
	{"copies", prepareCopies},
	{"swamp", prepareSwamp},
	{"diary", prepareDiary},
}

// chosenWorkloads returns the workloads of the given names.
func chosenWorkloads(names []string) ([]workload, error) {
	var chosen []workload
	for _, name := range names {
		i := slices.IndexFunc(workloads, func(w workload) bool { return w.name == name })
		if i < 0 {
			var all []string
			for _, w := range workloads {
				all = append(all, w.name)
			}
			return nil, fmt.Errorf("%q is no workload; there are %s", name, strings.Join(all, ", "))
		}
		chosen = append(chosen, workloads[i])
	}
	if slices.Contains(names, "swamp") && slices.Contains(names, "diary") {
		return nil, errors.New("swamp and diary cannot be in one run: with the short tokens of the diary, who misbehaves is cut off for another reason")
	}
	return chosen, nil
}

// prepare makes the people and conversations of the workloads.
func (l *Lab) prepare(ctx context.Context, chosen []workload) ([]work, error) {
	var list []work
	for _, w := range chosen {
		begin, err := w.prepare(ctx, l)
		if err != nil {
			return nil, fmt.Errorf("prepare %s: %w", w.name, err)
		}
		list = append(list, func(ctx, done context.Context) error {
			if err := begin(ctx, done); err != nil {
				return fmt.Errorf("%s: %w", w.name, err)
			}
			return nil
		})
	}
	return list, nil
}

// recruit registers a user and connects as many devices.
func (l *Lab) recruit(ctx context.Context, user subjects.User, devices int, hears bool) ([]*person, error) {
	if _, err := client.Register(ctx, l.url(0), wire.Register{User: user, Password: password}); err != nil {
		return nil, fmt.Errorf("register %s: %w", user, err)
	}
	var list []*person
	for i := range devices {
		p := l.newPerson(user, subjects.Device(fmt.Sprintf("d%d", i)), len(l.recruits))
		p.hears = hears
		var err error
		if p.client, err = client.Dial(ctx, l.url(i), client.WithPassword(user, password), client.WithDevice(p.device), client.WithOnEvent(p.observe)); err != nil {
			return nil, fmt.Errorf("connect %s: %w", user, err)
		}
		l.recruits = append(l.recruits, p)
		list = append(list, p)
	}
	return list, nil
}

// newPerson returns a device that is not connected yet, with chance of its own.
func (l *Lab) newPerson(user subjects.User, device subjects.Device, number int) *person {
	return &person{lab: l, user: user, device: device, seen: map[subjects.Conversation]wire.Seq{}, random: rand.New(rand.NewPCG(l.config.Seed+1, uint64(number)))}
}

// found makes a conversation for a workload. The owner of the run owns it, and reads it at the end.
func (l *Lab) found(ctx context.Context, room subjects.Conversation, members ...subjects.User) error {
	id := strings.TrimPrefix(string(room), "g.")
	if _, err := l.owner.client.Create(ctx, wire.Create{Kind: subjects.KindGroup, ID: id, Title: id, Members: members}); err != nil {
		return fmt.Errorf("make %s: %w", room, err)
	}
	for _, u := range slices.Concat(members, []subjects.User{l.owner.user}) {
		l.history.Add(history.Record{Kind: history.Founder, User: u, Conversation: room})
	}
	l.halls = append(l.halls, room)
	return nil
}

// settled waits until everybody of some people has shown the newest entry of a conversation.
func (l *Lab) settled(done context.Context, room subjects.Conversation, people ...*person) {
	head, err := l.head(done, room)
	if err != nil {
		return
	}
	for _, p := range people {
		for p.shown(room) < head && done.Err() == nil {
			sleep(done, tryPause/10)
		}
	}
}

// together runs what a workload is made of, and joins its errors.
type together struct {
	group  sync.WaitGroup
	mu     sync.Mutex
	failed error
}

func (t *together) do(what func() error) {
	t.group.Go(func() {
		if err := what(); err != nil {
			t.mu.Lock()
			defer t.mu.Unlock()
			t.failed = errors.Join(t.failed, err)
		}
	})
}

func (t *together) wait() error {
	t.group.Wait()
	return t.failed
}

// asking makes one call, bounded as a try of a send.
func asking[In, Out any](ctx context.Context, p *person, call string, in In) (Out, error) {
	within, cancel := context.WithTimeout(ctx, tryWithin)
	defer cancel()
	return client.Call[In, Out](within, p.client, call, in)
}
