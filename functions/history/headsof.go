package history

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"

	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// headsOf answers for many users at once what heads answers each of them, in the same order of reads: the heads first, and then who is in what. Long lists are left out, so that nobody
// waits for another's.
func (r *reader) headsOf(ctx context.Context, _ *functions.Call, in *wire.HeadsOfQuery) (json.RawMessage, error) {
	slices.Sort(in.Users)
	users := slices.Compact(in.Users)
	listed, err := r.lists.ListedOf(ctx, users, wire.MaxHeadsTogether)
	if err != nil {
		return nil, unavailable("read the lists", err)
	}
	looks, err := r.lookOf(ctx, listed)
	if err != nil {
		return nil, err
	}
	answer, size := wire.HeadsOf{Users: make(map[subjects.User]wire.Heads, len(users))}, 64
	for _, u := range users {
		l, ok := looks[u]
		if !ok {
			continue
		}
		shown, err := r.shown(ctx, l)
		if err != nil {
			return nil, err
		}
		theirs := len(u) + 64
		for i := range shown {
			theirs += sizeOf(&shown[i])
		}
		if size+theirs <= maxAnswer {
			size += theirs
			answer.Users[u] = wire.Heads{Conversations: shown}
		}
	}
	return wire.AppendHeadsOf(make([]byte, 0, size), &answer), nil
}

// lookOf reads for many users what look reads for one. Those with whom that cannot be done are left out.
func (r *reader) lookOf(ctx context.Context, listed map[subjects.User][]jetstream.Member) (map[subjects.User]*looks, error) {
	var ids []subjects.Conversation
	for _, members := range listed {
		for _, m := range members {
			ids = append(ids, m.Conversation)
		}
	}
	slices.Sort(ids)
	ids = slices.Compact(ids)
	heads, err := r.lists.Heads(ctx, ids)
	if err != nil {
		return nil, unavailable("read the heads", err)
	}
	found := make(map[subjects.User]*looks, len(listed))
	var reading []subjects.User
	for u := range listed {
		found[u] = &looks{ids: ids, heads: heads}
		if slices.ContainsFunc(listed[u], func(m jetstream.Member) bool { h := found[u].headOf(m.Conversation); return h != nil && mayLag(h, u) }) {
			reading = append(reading, u)
		}
	}
	var (
		titles   map[subjects.Conversation]string
		members  map[subjects.User][]jetstream.Member
		marks    map[subjects.User]jetstream.Marks
		failures [3]error
		all      sync.WaitGroup
	)
	all.Go(func() { titles, failures[0] = r.lists.Titles(ctx, grouped(ids)) })
	all.Go(func() { members, failures[1] = r.store.ConfirmOf(ctx, listed) })
	if len(reading) > 0 {
		marks, failures[2] = r.lists.MarksOf(ctx, reading)
	}
	all.Wait()
	if err := errors.Join(failures[:]...); err != nil {
		return nil, unavailable("read the lists", err)
	}
	for u, l := range found {
		l.titles, l.members, l.marks = titles, members[u], marks[u]
	}
	for _, u := range reading {
		if _, ok := marks[u]; !ok {
			delete(found, u)
		}
	}
	return found, nil
}
