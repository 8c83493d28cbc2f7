package jetstreamtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// Found makes a group of 90 entries, in more than one page, as the functions make one: ada founds it, bob is added, cyd was added and removed; there are edits,
// recalls, also of the ends of pages, and reactions.
func Found(t testing.TB, store *jetstream.Store, c subjects.Conversation) {
	t.Helper()
	if err := found(t.Context(), store, c); err != nil {
		t.Fatal(err)
	}
}

func found(ctx context.Context, store *jetstream.Store, c subjects.Conversation) error {
	if _, err := store.CreateConversation(ctx, jetstream.Conversation{Conversation: c, Kind: c.Kind(), Title: "Tea", CreatedBy: "ada"}); err != nil {
		return err
	}
	if err := store.PutMembers(ctx, []jetstream.Member{{Conversation: c, User: "ada", Role: wire.RoleOwner, JoinedSeq: 1}}); err != nil {
		return err
	}
	drafts := []jetstream.Draft{{Kind: wire.KindPolicy, Body: []byte(`{"title":"Tea","policy":{}}`)}}
	for i := range 80 {
		drafts = append(drafts, jetstream.Draft{Kind: wire.KindMessage, From: []subjects.User{"ada", "bob"}[i%2], Body: []byte(`{"text":"hi"}`)})
	}
	drafts = append(drafts,
		jetstream.Draft{Kind: wire.KindEdit, Target: 10, Body: []byte(`{"text":"ho"}`)},
		jetstream.Draft{Kind: wire.KindReaction, Target: 11, Body: []byte(`{"emoji":"+"}`)},
		jetstream.Draft{Kind: wire.KindRecall, Target: 10},
		jetstream.Draft{Kind: wire.KindRecall, Target: 64},
		jetstream.Draft{Kind: wire.KindRecall, Target: 65},
	)
	for i, d := range drafts {
		d.ClientID = fmt.Sprint("found-", i)
		if d.From == "" {
			d.From = "ada"
		}
		if _, err := put(ctx, store, c, d); err != nil {
			return err
		}
		if i == 0 {
			if err := errors.Join(join(ctx, store, c, "bob"), join(ctx, store, c, "cyd")); err != nil {
				return err
			}
		}
	}
	if err := leave(ctx, store, c, "cyd"); err != nil {
		return err
	}
	_, err := put(ctx, store, c, jetstream.Draft{Kind: wire.KindMessage, From: "bob", ClientID: "last", Body: []byte(`{"text":"last"}`)})
	return err
}

// Busy does one thing in a conversation that Found made, in which nobody else changes who is in it: it posts, reacts, recalls, marks, or has eve come or go.
func Busy(store *jetstream.Store, c subjects.Conversation, random *rand.Rand) error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	tail, err := store.Tail(ctx, c)
	if err != nil {
		return err
	}
	d := jetstream.Draft{Kind: wire.KindMessage, From: "bob", ClientID: fmt.Sprint("busy-", random.Uint64()), Body: []byte(`{"text":"busy"}`)}
	switch random.IntN(6) {
	case 0:
		d.Kind, d.Target, d.Body = wire.KindRecall, tail.Seq, nil
	case 1:
		d.Kind, d.Target, d.Body = wire.KindReaction, tail.Seq, []byte(`{"emoji":"+"}`)
	case 2:
		if _, err := store.Member(ctx, c, "eve"); err == nil {
			return leave(ctx, store, c, "eve")
		}
		return join(ctx, store, c, "eve")
	case 3:
		_, err := store.RaiseCursor(ctx, c, "bob", jetstream.Cursor{Read: tail.Mark(), Delivered: tail.Seq})
		return err
	}
	_, err = put(ctx, store, c, d)
	if errors.Is(err, jetstream.ErrNoMessage) || errors.Is(err, jetstream.ErrErased) { // the newest entry was none that can be changed
		return nil
	}
	return err
}

func put(ctx context.Context, store *jetstream.Store, c subjects.Conversation, d jetstream.Draft) (wire.Entry, error) {
	for {
		tail, err := store.Tail(ctx, c)
		if err != nil {
			return wire.Entry{}, err
		}
		done, err := store.Append(ctx, c, tail, d)
		if !errors.Is(err, jetstream.ErrTailMoved) {
			return done.Entry, err
		}
	}
}

// join adds a user in the order of function conversations: a beginning, the entry, the mark, the membership.
func join(ctx context.Context, store *jetstream.Store, c subjects.Conversation, u subjects.User) error {
	m := jetstream.Member{Conversation: c, User: u}
	var err error
	if m.Revision, err = store.PutMember(ctx, m); err != nil {
		return err
	}
	entry, err := put(ctx, store, c, memberDraft(u, wire.ChangeAdded, wire.RoleMember, m.Revision))
	if err != nil {
		return err
	}
	if _, err := store.RaiseCursor(ctx, c, u, jetstream.Cursor{Read: wire.Mark{Seq: entry.Seq, Count: entry.Count}}); err != nil {
		return err
	}
	m.Role, m.JoinedSeq = wire.RoleMember, entry.Seq
	_, err = store.PutMember(ctx, m)
	return err
}

// leave removes a user in the order of function conversations: the end of the role, the entry, the end of the record.
func leave(ctx context.Context, store *jetstream.Store, c subjects.Conversation, u subjects.User) error {
	m, err := store.Member(ctx, c, u)
	if err != nil {
		return err
	}
	m.Role = ""
	if m.Revision, err = store.PutMember(ctx, m); err != nil {
		return err
	}
	if _, err := put(ctx, store, c, memberDraft(u, wire.ChangeRemoved, "", m.Revision)); err != nil {
		return err
	}
	return store.RemoveMember(ctx, m)
}

func memberDraft(u subjects.User, change wire.MemberChange, role wire.Role, state uint64) jetstream.Draft {
	body, _ := json.Marshal(wire.MemberBody{User: u, Change: change, Role: role, By: "ada"}) // words always encode
	return jetstream.Draft{Kind: wire.KindMember, From: "ada", ClientID: fmt.Sprint("member-", u, change, state, time.Now().UnixNano()), Body: body}
}
