package jetstream_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/jetstream/jetstreamtest"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

func open(t *testing.T, store *jetstream.Store, u subjects.User) (jetstream.Session, string) {
	t.Helper()
	session, token, err := store.OpenSession(t.Context(), jetstream.Session{
		User: u, Device: "web-1", Created: wire.At(time.Now()), Expires: wire.At(time.Now().Add(time.Hour)),
	})
	if err != nil {
		t.Fatal(err)
	}
	return session, token
}

func TestRefreshTokensAreGoodOnce(t *testing.T) {
	var dir string
	s := jetstreamtest.Start(t, jetstreamtest.Configure(func(o *server.Options) { dir = o.StoreDir }))
	store := s.Store(t)
	ctx := t.Context()
	later := time.Now().Add(2 * time.Hour)
	session, first := open(t, store, "ada")
	renewed, second, err := store.RefreshSession(ctx, first, time.Now(), later)
	if err != nil || renewed.ID != session.ID || renewed.Device != "web-1" || second == first || !renewed.Expires.Equal(wire.At(later).Time) {
		t.Fatalf("%+v, %v", renewed, err)
	}
	s.Restart(t)
	reused, _, err := store.RefreshSession(ctx, first, time.Now(), later)
	if !errors.Is(err, jetstream.ErrSpent) || reused.ID != session.ID || reused.User != "ada" {
		t.Errorf("a spent token: %+v, %v", reused, err)
	}
	_, third, err := store.RefreshSession(ctx, second, time.Now(), later)
	if err != nil {
		t.Errorf("the newest token: %v", err)
	}
	_, other := open(t, store, "ada")
	parts := strings.Split(third, ".")
	for name, token := range map[string]string{
		"empty":                     "",
		"a guess":                   strings.Join([]string{parts[0], parts[1], "AAAA", parts[3]}, "."),
		"of another user":           "bob." + strings.Join(parts[1:], "."),
		"of another session":        strings.Join([]string{parts[0], strings.Split(other, ".")[1], parts[2], parts[3]}, "."),
		"a pattern":                 ">." + strings.Join(parts[1:], "."),
		"a pattern for the session": strings.Join([]string{parts[0], "*", parts[2], parts[3]}, "."),
		"too many parts":            third + ".x",
		"a megabyte of dots":        strings.Repeat(".", 1<<20),
	} {
		if _, _, err := store.RefreshSession(ctx, token, time.Now(), later); !errors.Is(err, jetstream.ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := store.RefreshSession(ctx, third, later, later.Add(time.Hour)); !errors.Is(err, jetstream.ErrNotFound) {
		t.Errorf("an expired token: %v", err)
	}
	sessions, err := store.Sessions(ctx, "ada")
	if err != nil || len(sessions) != 2 {
		t.Errorf("%d sessions, %v", len(sessions), err)
	}
	for range 2 {
		if err := store.CloseSession(ctx, "ada", session.ID); err != nil {
			t.Fatal(err)
		}
	}
	if err := store.CloseSession(ctx, "ada", "*"); err != nil {
		t.Error(err)
	}
	if _, _, err := store.RefreshSession(ctx, third, time.Now(), later); !errors.Is(err, jetstream.ErrNotFound) {
		t.Errorf("after the end of the session: %v", err)
	}
	if _, _, err := store.RefreshSession(ctx, other, time.Now(), later); err != nil {
		t.Errorf("the other session: %v", err)
	}
	s.Stop(t)
	for _, secret := range append(parts[2:], strings.Split(other, ".")[2:]...) {
		if path := grep(t, dir, []byte(secret)); path != "" {
			t.Errorf("%s holds a refresh token", path)
		}
	}
}

func TestOfTwoWhoRefreshAtOnceOneGetsAToken(t *testing.T) {
	s := jetstreamtest.Start(t)
	store := s.Store(t)
	_, token := open(t, store, "ada")
	var won, spent atomic.Int32
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			_, _, err := store.RefreshSession(t.Context(), token, time.Now(), time.Now().Add(time.Hour))
			if err == nil {
				won.Add(1)
			}
			if errors.Is(err, jetstream.ErrSpent) {
				spent.Add(1)
			}
		})
	}
	all.Wait()
	if won.Load() != 1 || spent.Load() != 7 {
		t.Errorf("%d got a token and %d were told that it is spent", won.Load(), spent.Load())
	}
}

func TestSessionsExpire(t *testing.T) {
	store := jetstreamtest.Start(t).Store(t)
	_, _, err := store.OpenSession(t.Context(), jetstream.Session{User: "ada", Expires: wire.At(time.Now())})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the end of the session's record", func() bool {
		sessions, err := store.Sessions(t.Context(), "ada")
		return err == nil && len(sessions) == 0
	})
}

// endedBefore is up to when the tests revoke all sessions of bob.
func endedBefore(issued time.Time) wire.Time { return wire.At(issued.Add(time.Second)) }

// wantEnded compares what is known of ended sessions: one of ada's, and all of bob's that were issued before a time.
func wantEnded(t *testing.T, r *jetstream.Revocations, issued time.Time) {
	t.Helper()
	for _, c := range []struct {
		user    subjects.User
		session string
		issued  time.Time
		want    bool
	}{
		{"ada", "one", issued, true}, {"ada", "two", issued, false}, {"ada", "", issued, false},
		{"bob", "one", issued, true}, {"bob", "", issued, true}, {"bob", "one", issued.Add(2 * time.Second), false},
		{"eve", "one", issued, false},
	} {
		if got := r.Revoked(c.user, c.session, c.issued); got != c.want {
			t.Errorf("%s %q: revoked is %v", c.user, c.session, got)
		}
	}
	if got := r.After(0).Revocations; len(got) != 2 || got[0].Session != "one" || !got[1].Before.Equal(endedBefore(issued).Time) {
		t.Errorf("all: %+v", got)
	}
}

func TestRevocationsReachEveryProcess(t *testing.T) {
	s := jetstreamtest.Start(t)
	ctx := t.Context()
	until := time.Now().Add(time.Hour)
	issued := time.Now()
	here, err := s.Store(t).Revocations(ctx)
	if err != nil {
		t.Fatal(err)
	}
	there, err := s.Store(t).Revocations(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if here.Revoked("ada", "one", issued) || len(here.After(0).Revocations) != 0 {
		t.Fatal("revoked from the start")
	}
	if err := here.Revoke(ctx, wire.Revocation{User: "ada", Session: "one"}, until); err != nil {
		t.Fatal(err)
	}
	before := endedBefore(issued)
	if err := here.Revoke(ctx, wire.Revocation{User: "bob", Before: &before}, until); err != nil {
		t.Fatal(err)
	}
	earlier := wire.At(issued.Add(-time.Hour))
	if err := here.Revoke(ctx, wire.Revocation{User: "bob", Before: &earlier}, until.Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	t.Run("in force at once where it was said", func(t *testing.T) { wantEnded(t, here, issued) })
	t.Run("elsewhere with the next poll", func(t *testing.T) {
		start := there.After(0).Revision
		if err := there.Poll(ctx); err != nil {
			t.Fatal(err)
		}
		wantEnded(t, there, issued)
		news := there.After(start)
		if len(news.Revocations) != 2 || news.Revision <= start || len(there.After(news.Revision).Revocations) != 0 {
			t.Errorf("news: %+v", news)
		}
	})
	t.Run("and for who starts later, after a restart", func(t *testing.T) {
		s.Restart(t)
		late, err := s.Store(t).Revocations(ctx)
		if err != nil {
			t.Fatal(err)
		}
		wantEnded(t, late, issued)
	})
	t.Run("forgotten when the last token has expired", func(t *testing.T) {
		if err := here.Revoke(ctx, wire.Revocation{User: "eve", Session: "x"}, time.Now().Add(50*time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the end of a revocation", func() bool {
			return here.Poll(ctx) == nil && !here.Revoked("eve", "x", issued)
		})
		wantEnded(t, here, issued)
	})
}

func TestRevocationsRun(t *testing.T) {
	s := jetstreamtest.Start(t)
	here, err := s.Store(t).Revocations(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	there, err := s.Store(t).Revocations(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	defer running.Wait()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var failures atomic.Int32
	running.Go(func() { there.Run(ctx, func(error) { failures.Add(1) }) })
	if err := here.Revoke(ctx, wire.Revocation{User: "ada", Session: "one"}, time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	eventually(t, "the revocation elsewhere", func() bool { return there.Revoked("ada", "one", time.Now()) })
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("it took %v", took)
	}
	if there.AsOf().Before(began.Add(-time.Second)) || failures.Load() != 0 {
		t.Errorf("as of %v, with %d failures", there.AsOf(), failures.Load())
	}
}

func TestInvites(t *testing.T) {
	s := jetstreamtest.Start(t)
	store := s.Store(t)
	ctx := t.Context()
	code, err := store.CreateInvite(ctx, 3, time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	s.Restart(t)
	var used, spent atomic.Int32
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			switch err := store.UseInvite(ctx, code, time.Now()); {
			case err == nil:
				used.Add(1)
			case errors.Is(err, jetstream.ErrSpent):
				spent.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	all.Wait()
	if used.Load() != 3 || spent.Load() != 5 {
		t.Errorf("used %d times, refused %d times", used.Load(), spent.Load())
	}
	if err := store.ReturnInvite(ctx, code, time.Now()); err != nil {
		t.Error(err)
	}
	if err := store.UseInvite(ctx, code, time.Now().Add(2*time.Hour)); !errors.Is(err, jetstream.ErrNotFound) {
		t.Errorf("an expired invite: %v", err)
	}
	if err := store.CheckInvite(ctx, code, time.Now()); err != nil {
		t.Errorf("looking at the returned use: %v", err)
	}
	if err := store.UseInvite(ctx, code, time.Now()); err != nil {
		t.Errorf("the returned use: %v", err)
	}
	if err := store.CheckInvite(ctx, code, time.Now()); !errors.Is(err, jetstream.ErrSpent) {
		t.Errorf("looking at a spent invite: %v", err)
	}
	for _, code := range []string{"", ">", strings.Repeat("x", 1<<20)} {
		if err := store.UseInvite(ctx, code, time.Now()); !errors.Is(err, jetstream.ErrNotFound) {
			t.Errorf("a code of %d bytes: %v", len(code), err)
		}
	}
}

func TestSigningKeys(t *testing.T) {
	s := jetstreamtest.Start(t)
	store := s.Store(t)
	ctx := t.Context()
	now := time.Now()
	for i, id := range []string{"k2", "k1"} {
		key := jetstream.SigningKey{ID: id, Algorithm: "EdDSA", Private: []byte{byte(i)}, Created: wire.At(now.Add(time.Duration(i) * time.Second))}
		if _, err := store.CreateSigningKey(ctx, key); err != nil {
			t.Fatal(err)
		}
		if _, err := store.CreateSigningKey(ctx, key); !errors.Is(err, jetstream.ErrExists) {
			t.Errorf("the same id again: %v", err)
		}
	}
	if _, err := store.CreateSigningKey(ctx, jetstream.SigningKey{ID: "*"}); !errors.Is(err, subjects.ErrBadID) {
		t.Errorf("a pattern as id: %v", err)
	}
	s.Restart(t)
	keys, err := store.SigningKeys(ctx)
	if err != nil || len(keys) != 2 || keys[0].ID != "k2" || keys[1].Private[0] != 1 {
		t.Fatalf("%+v, %v", keys, err)
	}
	retired := wire.At(now)
	keys[0].Retired = &retired
	if _, err := store.UpdateSigningKey(ctx, keys[0]); err != nil {
		t.Error(err)
	}
	if _, err := store.UpdateSigningKey(ctx, keys[0]); !errors.Is(err, jetstream.ErrConflict) {
		t.Errorf("an old revision: %v", err)
	}
}
