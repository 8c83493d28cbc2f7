package backup_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/deploy/backup"
	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/jetstream/jetstreamtest"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// source is a store with conversations, users, sessions and jobs.
func source(t *testing.T) (*jetstreamtest.Server, *jetstream.Store, []subjects.Conversation) {
	t.Helper()
	server := jetstreamtest.Start(t)
	s := server.Store(t)
	jetstreamtest.Users(t, s, "ada", "bob", "cyd", "eve")
	var rooms []subjects.Conversation
	for i := range 4 {
		c := subjects.Conversation(fmt.Sprint("g.room-", i))
		jetstreamtest.Found(t, s, c)
		rooms = append(rooms, c)
	}
	return server, s, rooms
}

// write keeps all conversations busy until stop is called; done counts what was done.
func write(t *testing.T, s *jetstream.Store, rooms []subjects.Conversation) (done *atomic.Int64, stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	done = new(atomic.Int64)
	for i, c := range rooms {
		random := rand.New(rand.NewPCG(rand.Uint64(), uint64(i)))
		all.Go(func() {
			for ctx.Err() == nil {
				if err := jetstreamtest.Busy(s, c, random); err != nil {
					t.Error(err)
					return
				}
				done.Add(1)
			}
		})
	}
	stop = func() { cancel(); all.Wait() }
	t.Cleanup(stop)
	return done, stop
}

// recall takes a message back, beside others who write.
func recall(t *testing.T, s *jetstream.Store, c subjects.Conversation, seq wire.Seq) {
	for {
		tail, err := s.Tail(t.Context(), c)
		if err == nil {
			_, err = s.Append(t.Context(), c, tail, jetstream.Draft{Kind: wire.KindRecall, From: "ada", Target: seq, ClientID: fmt.Sprint("recall-", seq)})
		}
		if err == nil {
			return
		}
		if !errors.Is(err, jetstream.ErrTailMoved) {
			t.Error(err)
			return
		}
	}
}

func take(t *testing.T, nc *nats.Conn, progress func(string, int64)) (string, backup.Manifest) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "confab.backup")
	m, err := backup.Take(t.Context(), nc, name, backup.Options{Version: "test", Progress: progress})
	if err != nil {
		t.Fatal(err)
	}
	return name, m
}

func restore(t *testing.T, name string, server *jetstreamtest.Server, o backup.RestoreOptions) (*jetstream.Store, jetstream.Mended) {
	t.Helper()
	f, err := backup.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	nc := server.Connect(t)
	mended, err := f.Restore(t.Context(), nc, o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	s, err := jetstream.Open(ctx, nc)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s, mended
}

func sound(t *testing.T, s *jetstream.Store) jetstream.Audit {
	t.Helper()
	audit, err := s.Verify(t.Context(), jetstream.VerifyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range audit.Findings {
		t.Errorf("%s", f)
	}
	return audit
}

// TestWhatIsRestoredIsWhatWasThere takes a backup of a store at rest: nothing needs to be mended, and all reads as before.
func TestWhatIsRestoredIsWhatWasThere(t *testing.T) {
	t.Parallel()
	server, s, rooms := source(t)
	before := sound(t, s)
	name, m := take(t, server.Connect(t), nil)
	if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file is %v, %v", info, err)
	}
	if !m.Ended.After(m.Began) || m.Replicas != 1 || len(m.Assets) != len(jetstream.CopyOrder()) {
		t.Errorf("the manifest is %+v", m)
	}
	target := jetstreamtest.Start(t)
	restored, mended := restore(t, name, target, backup.RestoreOptions{})
	if mended.Amends == 0 || mended != (jetstream.Mended{Amends: mended.Amends}) {
		t.Errorf("of a store at rest were mended: %+v", mended)
	}
	after := sound(t, restored)
	if before.Took, after.Took = 0, 0; fmt.Sprint(before) != fmt.Sprint(after) {
		t.Errorf("verify finds %+v, and found %+v", after, before)
	}
	for _, c := range rooms {
		have, want := jetstreamtest.Entries(t, restored, c), jetstreamtest.Entries(t, s, c)
		if fmt.Sprint(have) != fmt.Sprint(want) {
			t.Errorf("%s reads otherwise", c)
		}
	}
	member, err := restored.Member(t.Context(), rooms[0], "bob")
	if want, err2 := s.Member(t.Context(), rooms[0], "bob"); err != nil || err2 != nil || member != want {
		t.Errorf("bob is %+v, %v, was %+v", member, err, want) // with the revision
	}
	if _, err := restored.CreateUser(t.Context(), jetstream.User{User: "ada"}); !errors.Is(err, jetstream.ErrExists) {
		t.Errorf("a name that is taken: %v", err)
	}
	jetstreamtest.Say(t, restored, rooms[0], "ada", "on it goes")
	target.Restart(t)
	sound(t, restored)
}

// TestABackupBesideWritersIsSound takes backups while everything changes, also members and what was recalled: after each part it waits until more has changed.
func TestABackupBesideWritersIsSound(t *testing.T) {
	t.Parallel()
	server, s, rooms := source(t)
	nc := server.Connect(t)
	var sum jetstream.Mended
	for round := range 2 {
		heads := map[subjects.Conversation]wire.Seq{}
		for _, c := range rooms {
			tail, err := s.Tail(t.Context(), c)
			if err != nil {
				t.Fatal(err)
			}
			heads[c] = tail.Seq
		}
		done, stop := write(t, s, rooms)
		recalled := false
		name, _ := take(t, nc, func(stream string, _ int64) {
			if stream == subjects.StreamOf(rooms[0]) && !recalled { // its copy is done, and it is read on in a moment
				recalled = true
				recall(t, s, rooms[0], wire.Seq(20+round))
			}
			for before := done.Load(); done.Load() < before+8 && !t.Failed(); {
				time.Sleep(time.Millisecond)
			}
		})
		stop()
		restored, mended := restore(t, name, jetstreamtest.Start(t), backup.RestoreOptions{})
		t.Logf("beside %d changes: %+v, %+v", done.Load(), mended, sound(t, restored))
		sum.Erased, sum.Memberships, sum.Marks = sum.Erased+mended.Erased, sum.Memberships+mended.Memberships, sum.Marks+mended.Marks
		for _, c := range rooms {
			have, want := jetstreamtest.Entries(t, restored, c), jetstreamtest.Entries(t, s, c)
			if wire.Seq(len(have)) < heads[c] {
				t.Errorf("%s has %d entries, and had %d before", c, len(have), heads[c])
			}
			for i, e := range have {
				if e.Seq != want[i].Seq || e.ClientID != want[i].ClientID || e.Kind != want[i].Kind {
					t.Errorf("entry %d of %s is %+v, was %+v", e.Seq, c, e, want[i])
				}
			}
		}
		done, stop = write(t, restored, rooms) // and on it goes
		for done.Load() < 100 && !t.Failed() {
			time.Sleep(time.Millisecond)
		}
		stop()
		sound(t, restored)
	}
	if sum.Erased == 0 || sum.Memberships == 0 || sum.Marks == 0 {
		t.Errorf("the writers changed nothing that had to be mended: %+v", sum)
	}
}

func TestSessionsAreLeftOutUnlessAskedFor(t *testing.T) {
	t.Parallel()
	server, s, _ := source(t)
	now := time.Now()
	session, token, err := s.OpenSession(t.Context(), jetstream.Session{User: "ada", Created: wire.At(now), Expires: wire.At(now.Add(time.Hour))})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.CreateSigningKey(t.Context(), jetstream.SigningKey{ID: "k1", Private: []byte("secret"), Created: wire.At(now)}); err != nil {
		t.Fatal(err)
	}
	invite, err := s.CreateInvite(t.Context(), 1, now.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	name, _ := take(t, server.Connect(t), nil)
	_, next, err := s.RefreshSession(t.Context(), token, now, now.Add(time.Hour)) // after the backup
	if err != nil {
		t.Fatal(err)
	}
	without, mended := restore(t, name, jetstreamtest.Start(t), backup.RestoreOptions{})
	if mended.Sessions != 2 {
		t.Errorf("%d sessions and keys were left out", mended.Sessions)
	}
	for _, token := range []string{token, next} {
		if _, _, err := without.RefreshSession(t.Context(), token, now, now.Add(time.Hour)); !errors.Is(err, jetstream.ErrNotFound) {
			t.Errorf("a refresh token of before: %v", err)
		}
	}
	if keys, err := without.SigningKeys(t.Context()); err != nil || len(keys) != 0 {
		t.Errorf("the keys are %v, %v", keys, err)
	}
	if err := without.CheckInvite(t.Context(), invite, now); err != nil {
		t.Errorf("an invite of before: %v", err)
	}
	with, _ := restore(t, name, jetstreamtest.Start(t), backup.RestoreOptions{KeepSessions: true})
	if keys, err := with.SigningKeys(t.Context()); err != nil || len(keys) != 1 {
		t.Errorf("the keys are %v, %v", keys, err)
	}
	// The one that came after the backup looks like a stolen one: auth ends the session.
	if _, _, err := with.RefreshSession(t.Context(), next, now, now.Add(time.Hour)); !errors.Is(err, jetstream.ErrSpent) {
		t.Errorf("a refresh token of after the backup: %v", err)
	}
	if got, _, err := with.RefreshSession(t.Context(), token, now, now.Add(time.Hour)); err != nil || got.ID != session.ID {
		t.Errorf("a refresh token of before: %v", err)
	}
}

// TestFunctionsGetWhatTheyHadNotHad keeps the places of consumers: what was handled before the backup does not come again.
func TestFunctionsGetWhatTheyHadNotHad(t *testing.T) {
	t.Parallel()
	server, s, rooms := source(t)
	nc := server.Connect(t)
	if err := jetstream.DeclareConsumers(t.Context(), nc, []jetstream.ConsumerSpec{{Function: "counter", Entries: true}}); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		jetstreamtest.Say(t, s, rooms[0], "ada", "for the counter")
	}
	next := subjects.PullNext(subjects.StreamOf(rooms[0]), "counter")
	msg, err := nc.Request(next, []byte(`{"batch":1}`), 10*time.Second)
	if err == nil {
		_, err = nc.Request(msg.Reply, []byte("+ACK"), 10*time.Second)
	}
	if err != nil {
		t.Fatal(err)
	}
	name, _ := take(t, nc, nil)
	target := jetstreamtest.Start(t)
	restore(t, name, target, backup.RestoreOptions{})
	backlog, err := jetstream.Backlog(t.Context(), target.Connect(t), "counter")
	if err != nil || backlog != 2 {
		t.Errorf("%d wait, %v", backlog, err)
	}
}

func TestDamagedFilesAreRefused(t *testing.T) {
	t.Parallel()
	server, _, _ := source(t)
	name, m := take(t, server.Connect(t), nil)
	whole, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := backup.Take(t.Context(), server.Connect(t), name, backup.Options{}); !errors.Is(err, os.ErrExist) {
		t.Errorf("a file that is there is overwritten: %v", err)
	}
	broken := func(change func([]byte) []byte) error {
		t.Helper()
		name := filepath.Join(t.TempDir(), "broken")
		if err := os.WriteFile(name, change(slices.Clone(whole)), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := backup.Open(name)
		if err == nil {
			_ = f.Close()
		}
		return err
	}
	random := rand.New(rand.NewPCG(1, 1))
	for range 20 {
		n := random.IntN(len(whole) - 2048) // a tar file ends with at least that many zeros
		if err := broken(func(b []byte) []byte { return b[:n] }); !errors.Is(err, backup.ErrCutShort) {
			t.Errorf("cut after %d of %d bytes: %v", n, len(whole), err)
		}
	}
	copied := strings.Index(string(whole), "KV_IM_MEMBERS/copy/000001")
	if err := broken(func(b []byte) []byte { b[copied+512+20] ^= 1; return b }); !errors.Is(err, backup.ErrDamaged) || !strings.Contains(err.Error(), "KV_IM_MEMBERS/copy") {
		t.Errorf("a bit of the members is another: %v", err)
	}
	manifest := strings.Index(string(whole), `"dedupe_ms"`)
	if err := broken(func(b []byte) []byte { b[manifest+14] ^= 1; return b }); !errors.Is(err, backup.ErrDamaged) || !strings.Contains(err.Error(), "manifest") {
		t.Errorf("a bit of the manifest is another: %v", err)
	}
	for range 200 {
		n, bit := random.IntN(len(whole)-2048), byte(1<<random.IntN(8))
		if err := broken(func(b []byte) []byte { b[n] ^= bit; return b }); err == nil && whole[n] != 0 {
			t.Errorf("bit %d of byte %d of %d is another, and nobody notices", bit, n, len(whole))
		}
	}
	if len(m.Assets) == 0 {
		t.Error("the manifest names nothing")
	}
}

func TestARestoreChangesNothingThatIsThere(t *testing.T) {
	t.Parallel()
	origin, _, _ := source(t)
	name, _ := take(t, origin.Connect(t), nil)
	f, err := backup.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if _, err := f.Restore(t.Context(), origin.Connect(t), backup.RestoreOptions{}); !errors.Is(err, backup.ErrNotEmpty) {
		t.Errorf("into the server that it was taken from: %v", err)
	}
	target := jetstreamtest.Start(t)
	nc := target.Connect(t)
	if _, err := f.Restore(t.Context(), nc, backup.RestoreOptions{Replicas: 3}); err == nil { // which one server cannot keep
		t.Error("three copies on one server")
	}
	if there, err := jetstream.Present(t.Context(), nc); err != nil || len(there) != 0 {
		t.Errorf("a restore that failed leaves %v, %v", there, err)
	}
	full := jetstreamtest.Start(t, jetstreamtest.Configure(func(o *server.Options) { o.JetStreamMaxStore = 16 << 10 })).Connect(t)
	if _, err := f.Restore(t.Context(), full, backup.RestoreOptions{}); err == nil || !strings.Contains(err.Error(), "restore IM_MESSAGES_") {
		t.Errorf("into a server that has no room for messages: %v", err)
	}
	if there, err := jetstream.Present(t.Context(), full); err != nil || len(there) != 0 {
		t.Errorf("a restore that failed half-way leaves %v, %v", there, err)
	}
	f.Manifest.Layout++
	if _, err := f.Restore(t.Context(), nc, backup.RestoreOptions{}); !errors.Is(err, backup.ErrNewer) {
		t.Errorf("a newer layout: %v", err)
	}
}
