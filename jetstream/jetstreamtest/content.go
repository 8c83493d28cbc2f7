package jetstreamtest

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// Users stores the profiles of new users, as a registration does.
func Users(t testing.TB, store *jetstream.Store, users ...subjects.User) {
	t.Helper()
	for _, u := range users {
		if _, err := store.CreateUser(t.Context(), jetstream.User{User: u, Created: wire.At(time.Now())}); err != nil {
			t.Fatalf("create user %s: %v", u, err)
		}
	}
}

// Say appends a message to a conversation, as function send does for a member, and returns its entry.
func Say(t testing.TB, store *jetstream.Store, c subjects.Conversation, from subjects.User, text string) wire.Entry {
	t.Helper()
	body, err := wire.Marshal(map[string]string{"text": text})
	if err != nil {
		t.Fatal(err)
	}
	tail, err := store.Tail(t.Context(), c)
	if err != nil {
		t.Fatalf("read the tail of %s: %v", c, err)
	}
	appended, err := store.Append(t.Context(), c, tail, jetstream.Draft{Kind: wire.KindMessage, From: from, Body: body})
	if err != nil {
		t.Fatalf("append to %s: %v", c, err)
	}
	return appended.Entry
}

// Entries returns the whole log of a conversation as it now reads.
func Entries(t testing.TB, store *jetstream.Store, c subjects.Conversation) []wire.Entry {
	t.Helper()
	var all []wire.Entry
	for after := wire.Seq(0); ; {
		page, err := store.Page(t.Context(), wire.PageQuery{Conversation: c, After: &after, Limit: wire.MaxPage}, 1)
		if err != nil {
			t.Fatalf("read %s: %v", c, err)
		}
		for _, raw := range page.Entries {
			all = append(all, Entry(t, raw))
		}
		if !page.MoreAfter {
			return all
		}
		after = page.Last
	}
}

// Entry decodes an entry as it is stored and as pages hold it.
func Entry(t testing.TB, raw json.RawMessage) wire.Entry {
	t.Helper()
	var e wire.Entry
	if err := json.Unmarshal(raw, &e); err != nil {
		t.Fatalf("entry %s: %v", raw, err)
	}
	return e
}
