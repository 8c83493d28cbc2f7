package jetstream_test

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/jetstream/jetstreamtest"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

func TestUsers(t *testing.T) {
	server := jetstreamtest.Start(t)
	store := server.Store(t)
	ctx := t.Context()
	if _, err := store.User(ctx, "ada"); !errors.Is(err, jetstream.ErrNotFound) {
		t.Fatalf("before: %v", err)
	}
	t.Run("of many who register a name, one gets it", func(t *testing.T) {
		var won atomic.Int32
		var all sync.WaitGroup
		for i := range 8 {
			all.Go(func() {
				_, err := store.CreateUser(ctx, jetstream.User{User: "ada", Name: fmt.Sprint(i), Created: wire.At(time.Now())})
				if err == nil {
					won.Add(1)
				} else if !errors.Is(err, jetstream.ErrExists) {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if won.Load() != 1 {
			t.Errorf("%d got it", won.Load())
		}
	})
	t.Run("a profile is changed by compare-and-set", func(t *testing.T) {
		u, err := store.User(ctx, "ada")
		if err != nil {
			t.Fatal(err)
		}
		first := u
		u.Enrolled = true
		if _, err := store.UpdateUser(ctx, u); err != nil {
			t.Fatal(err)
		}
		if _, err := store.UpdateUser(ctx, first); !errors.Is(err, jetstream.ErrConflict) {
			t.Errorf("an old revision: %v", err)
		}
	})
	t.Run("many are read at once, and again after a restart", func(t *testing.T) {
		for i := range 5 {
			if _, err := store.CreateUser(ctx, jetstream.User{User: subjects.User(fmt.Sprintf("u%d", i))}); err != nil {
				t.Fatal(err)
			}
		}
		server.Restart(t)
		users, err := store.Users(ctx, []subjects.User{"u1", "nobody", "u4", "ada"})
		if err != nil || len(users) != 3 || !users["ada"].Enrolled || users["u4"].User != "u4" {
			t.Errorf("%v, %v", users, err)
		}
		for user, want := range map[subjects.User]bool{"u0": true, "nobody": false} {
			if exists, err := store.UserExists(ctx, user); exists != want || err != nil {
				t.Errorf("%s exists: %v, %v", user, exists, err)
			}
		}
	})
}

func TestACredentialStandsApartFromTheProfile(t *testing.T) {
	store := jetstreamtest.Start(t).Store(t)
	ctx := t.Context()
	if _, err := store.Credential(ctx, "ada"); !errors.Is(err, jetstream.ErrNotFound) {
		t.Errorf("before: %v", err)
	}
	if _, err := store.CreateCredential(ctx, "ada", jetstream.Credential{Hash: "$argon2id$1"}); err != nil {
		t.Fatal(err)
	}
	if _, err := store.CreateCredential(ctx, "ada", jetstream.Credential{Hash: "$argon2id$2"}); !errors.Is(err, jetstream.ErrExists) {
		t.Errorf("a second one: %v", err)
	}
	c, err := store.Credential(ctx, "ada")
	if err != nil || c.Hash != "$argon2id$1" {
		t.Fatalf("%+v, %v", c, err)
	}
	c.Hash = "$argon2id$3"
	if _, err := store.UpdateCredential(ctx, "ada", c); err != nil {
		t.Error(err)
	}
	if _, err := store.UpdateCredential(ctx, "ada", c); !errors.Is(err, jetstream.ErrConflict) {
		t.Errorf("an old revision: %v", err)
	}
}

func TestAForeignIdentityHasOneHandleForEver(t *testing.T) {
	store := jetstreamtest.Start(t).Store(t)
	ctx := t.Context()
	hostile := "> $SYS.*\r\n" + string(make([]byte, 5000))
	for _, user := range []subjects.User{"ada", "eve"} {
		got, err := store.MapIdentity(ctx, jetstream.Identity{Issuer: "https://issuer", Subject: hostile, User: user})
		if err != nil || got != "ada" {
			t.Errorf("map to %s: %s, %v", user, got, err)
		}
	}
	if _, err := store.IdentityUser(ctx, "https://issue", "r"+hostile); !errors.Is(err, jetstream.ErrNotFound) {
		t.Errorf("the same bytes, cut elsewhere: %v", err)
	}
}

func TestConversations(t *testing.T) {
	server := jetstreamtest.Start(t)
	store := server.Store(t)
	ctx := t.Context()
	c := jetstream.Conversation{Conversation: "g.den", Kind: subjects.KindGroup, Title: "Den", Created: wire.At(time.Now()), CreatedBy: "ada"}
	if _, err := store.CreateConversation(ctx, c); err != nil {
		t.Fatal(err)
	}
	if _, err := store.CreateConversation(ctx, c); !errors.Is(err, jetstream.ErrExists) {
		t.Errorf("a second one: %v", err)
	}
	server.Restart(t)
	c, err := store.Conversation(ctx, "g.den")
	if err != nil {
		t.Fatal(err)
	}
	first := c
	c.Policy.History = wire.HistoryStart
	if _, err := store.UpdateConversation(ctx, c); err != nil {
		t.Fatal(err)
	}
	if _, err := store.UpdateConversation(ctx, first); !errors.Is(err, jetstream.ErrConflict) {
		t.Errorf("an old revision: %v", err)
	}
	got, err := store.Conversations(ctx, []subjects.Conversation{"g.den", "c.none", "d.ada.bob"})
	if err != nil || len(got) != 1 || got["g.den"].Policy.History != wire.HistoryStart || got["g.den"].Title != "Den" {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := store.Conversation(ctx, "c.none"); !errors.Is(err, jetstream.ErrNotFound) {
		t.Errorf("none: %v", err)
	}
}

func TestSettings(t *testing.T) {
	server := jetstreamtest.Start(t)
	nc := server.Connect(t)
	store := server.StoreOn(t, nc)
	heard, err := nc.SubscribeSync(subjects.AllConfig)
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := store.Setting(t.Context(), "limits"); !errors.Is(err, jetstream.ErrNotFound) {
		t.Errorf("before: %v", err)
	}
	revision, err := store.PutSetting(t.Context(), "limits", []byte(`{"calls":5}`), 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.PutSetting(t.Context(), "limits", []byte(`{"calls":6}`), revision+1); !errors.Is(err, jetstream.ErrConflict) {
		t.Errorf("a wrong revision: %v", err)
	}
	value, got, err := store.Setting(t.Context(), "limits")
	if err != nil || string(value) != `{"calls":5}` || got != revision {
		t.Errorf("%s at %d, %v", value, got, err)
	}
	msg, err := heard.NextMsg(5 * time.Second)
	if err != nil || msg.Subject != "im.config.limits" || string(msg.Data) != `{"calls":5}` {
		t.Errorf("watchers hear %+v, %v", msg, err)
	}
}
