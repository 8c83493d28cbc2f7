package jetstream_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	js "github.com/nats-io/nats.go/jetstream"

	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/jetstream/jetstreamtest"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// denying runs a server on which the user "lame" may not publish some subjects: to the store it looks as if the program died before it.
func denying(t *testing.T, denied ...string) (s *jetstreamtest.Server, well, lame *jetstream.Store) {
	t.Helper()
	s = jetstreamtest.Start(t, jetstreamtest.Configure(func(o *server.Options) {
		o.Users = []*server.User{
			{Username: "well", Password: "well"},
			{Username: "lame", Password: "lame", Permissions: &server.Permissions{Publish: &server.SubjectPermission{Deny: denied}}},
		}
		o.NoAuthUser = "well"
	}))
	well = s.Store(t)
	ignore := nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	lame, err := jetstream.Open(ctx, s.Connect(t, nats.UserInfo("lame", "lame"), ignore))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(lame.Close)
	return s, well, lame
}

// crash appends with a store that dies after the entry is stored and before what it changes is recorded or erased.
func crash(t *testing.T, lame *jetstream.Store, w *writer, d jetstream.Draft) jetstream.Appended {
	t.Helper()
	w.reload()
	tail, err := w.store.Amend(t.Context(), w.conv, w.tail)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	done, err := lame.Append(ctx, w.conv, tail, d)
	if err != nil {
		t.Fatalf("append %s: %v", d.Kind, err)
	}
	if done.Tail.Settled() {
		t.Fatalf("the %s was settled: the test injects no fault", d.Kind)
	}
	return done
}

// TestAmendsFoldAsTheLogSays runs random posts, edits, recalls and reactions, some of which crash half-way, and reads everything in between.
func TestAmendsFoldAsTheLogSays(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	server, s, lame := denying(t, subjects.BucketSubject(subjects.BucketAmends, ">"))
	w := newWriter(t, s, talk)
	m := &model{conv: talk}
	for i := range 300 {
		d := m.next(random)
		d.ClientID = fmt.Sprint("c-", i)
		if amends := d.Target != 0; amends && random.IntN(24) == 0 {
			m.add(t, crash(t, lame, w, d).Entry)
			m.check(t, s, 200)
			w.tail = jetstream.Tail{} // the next appender is another process
			continue
		}
		m.add(t, w.append(d).Entry)
		if i%50 == 0 {
			m.check(t, s, 1+random.IntN(90))
		}
	}
	m.add(t, w.append(message("ada", "the last one settles what is open")).Entry)
	m.check(t, s, 37)
	m.checkEntries(t, s)
	m.checkErased(t, s)
	if changed, err := s.RebuildAmends(t.Context(), talk); err != nil || changed != 0 {
		t.Errorf("rebuilding changed %d records, %v", changed, err)
	}
	client, err := js.New(server.Connect(t))
	if err != nil {
		t.Fatal(err)
	}
	bucket, err := client.Stream(t.Context(), subjects.BucketStream(subjects.BucketAmends))
	if err != nil {
		t.Fatal(err)
	}
	if err := bucket.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	if changed, err := s.RebuildAmends(t.Context(), talk); err != nil || changed < 4 {
		t.Errorf("rebuilding from nothing changed %d records, %v", changed, err)
	}
	m.check(t, s, 37)
}

// next draws what somebody does next.
func (m *model) next(random *rand.Rand) jetstream.Draft {
	users := []subjects.User{"ada", "bob", "cyd"}
	user := users[random.IntN(len(users))]
	target := wire.Seq(1 + random.IntN(max(1, len(m.entries))))
	if random.IntN(3) > 0 {
		target = wire.Seq(max(1, len(m.entries)-random.IntN(10))) // most changes speak of what is new
	}
	able := len(m.entries) > 0 && m.entries[target-1].Kind == wire.KindMessage && !m.entries[target-1].Recalled
	switch kind := random.IntN(10); {
	case !able || kind < 4:
		return message(user, fmt.Sprint("m", len(m.entries)))
	case kind < 6:
		return editOf(target, m.entries[target-1].From, fmt.Sprint("e", len(m.entries)))
	case kind < 8:
		return reactionTo(target, user, []string{"👍", "❤️"}[random.IntN(2)], random.IntN(3) == 0)
	}
	return recallOf(target, user)
}

func (m *model) checkEntries(t *testing.T, s *jetstream.Store) {
	t.Helper()
	for seq := wire.Seq(1); int(seq) <= len(m.entries); seq += 7 {
		got, err := s.Entry(t.Context(), m.conv, seq)
		if err != nil {
			t.Fatal(err)
		}
		data, err := json.Marshal(got)
		if err != nil {
			t.Fatal(err)
		}
		if want := m.want(t, 1, seq, seq).Entries[0]; canonical(t, data) != canonical(t, want) {
			t.Fatalf("entry %d reads\n%s, want\n%s", seq, data, want)
		}
	}
}

// checkErased proves that the stream holds no body of what was recalled.
func (m *model) checkErased(t *testing.T, s *jetstream.Store) {
	t.Helper()
	filled := wire.Filled{}
	for after := wire.Seq(0); int(after) < len(m.entries); after += 200 {
		part, err := s.Fill(t.Context(), m.conv, after, 200)
		if err != nil {
			t.Fatal(err)
		}
		filled.Entries = append(filled.Entries, part.Entries...)
	}
	left := 0
	for _, e := range m.entries {
		if !e.Recalled {
			left++
		}
	}
	if len(filled.Entries) != left {
		t.Errorf("%d entries are stored, want %d: %d of %d were recalled", len(filled.Entries), left, len(m.entries)-left, len(m.entries))
	}
}

// TestRecallsKeepTheChainWhole recalls what the log is walked over: the last entries of pages, edits among them.
func TestRecallsKeepTheChainWhole(t *testing.T) {
	s := jetstreamtest.Start(t).Store(t)
	w := newWriter(t, s, talk)
	m := &model{conv: talk}
	const pages = 20
	for len(m.entries) < pages*jetstream.PageSize {
		if n := len(m.entries) + 1; n%(2*jetstream.PageSize) == 0 {
			m.add(t, w.append(editOf(wire.Seq(n-1), "ada", "changed")).Entry)
			continue
		}
		m.add(t, w.append(message("ada", "text")).Entry)
	}
	for page := 1; page <= pages; page++ {
		target := wire.Seq(page * jetstream.PageSize)
		if page%2 == 0 {
			target-- // its edit is the last one
		}
		m.add(t, w.append(recallOf(target, "ada")).Entry)
	}
	m.check(t, s, 200)
	m.checkEntries(t, s)
	m.checkErased(t, s)
	if changed, err := s.RebuildAmends(t.Context(), talk); err != nil || changed != 0 {
		t.Errorf("rebuilding changed %d records, %v", changed, err)
	}
}

// TestAHalfDoneRecallIsCompleted stops a recall over two pages at each of its steps.
func TestAHalfDoneRecallIsCompleted(t *testing.T) {
	t.Parallel()
	for name, denied := range map[string]string{
		"before it is recorded":      subjects.BucketSubject(subjects.BucketAmends, ">"),
		"before the edit's page":     subjects.BucketSubject(subjects.BucketAmends, subjects.AmendsKey(talk, 1)),
		"between two pages' records": subjects.BucketSubject(subjects.BucketAmends, subjects.AmendsKey(talk, 0)),
		"before anything is erased":  subjects.EraseMessage("*"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, s, lame := denying(t, denied)
			w := newWriter(t, s, talk)
			m := &model{conv: talk}
			for range jetstream.PageSize + 3 {
				m.add(t, w.append(message("ada", "text")).Entry)
			}
			m.add(t, w.append(editOf(5, "ada", "changed")).Entry)
			recall := recallOf(5, "ada")
			recall.ClientID = "recall"
			recalled := crash(t, lame, w, recall)
			m.add(t, recalled.Entry)
			m.check(t, s, 50)
			w.repeated("the recall", recall, recalled.Entry)
			if _, err := w.try(editOf(5, "ada", "too late")); !errors.Is(err, jetstream.ErrErased) {
				t.Errorf("editing what was recalled: %v", err)
			}
			m.add(t, w.append(message("bob", "next")).Entry)
			m.check(t, s, 50)
			m.checkErased(t, s)
			if changed, err := s.RebuildAmends(t.Context(), talk); err != nil || changed != 0 {
				t.Errorf("rebuilding changed %d records, %v", changed, err)
			}
		})
	}
}

func TestTargetsAreChecked(t *testing.T) {
	s := jetstreamtest.Start(t).Store(t)
	w := newWriter(t, s, talk)
	w.append(jetstream.Draft{Kind: wire.KindPolicy, From: "ada", Body: json.RawMessage(`{"history":"start"}`)})
	w.post("ada", "to edit")
	w.post("ada", "to recall")
	w.append(recallOf(3, "ada"))
	for range jetstream.MaxEdits {
		w.append(editOf(2, "ada", "again"))
	}
	for name, c := range map[string]struct {
		draft jetstream.Draft
		want  error
	}{
		"seq 0":                      {editOf(0, "ada", "x"), jetstream.ErrNoEntry},
		"a seq beyond the tail":      {reactionTo(w.tail.Seq+1, "ada", "x", false), jetstream.ErrNoEntry},
		"a change of policy":         {recallOf(1, "ada"), jetstream.ErrNoMessage},
		"an edit":                    {editOf(5, "ada", "x"), jetstream.ErrNoMessage},
		"what was recalled":          {reactionTo(3, "bob", "x", false), jetstream.ErrErased},
		"a message edited too often": {editOf(2, "ada", "x"), jetstream.ErrAmendsFull},
	} {
		if _, err := w.try(c.draft); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	w.append(recallOf(2, "ada"))
	if _, err := s.Entry(t.Context(), talk, w.tail.Seq+1); !errors.Is(err, jetstream.ErrNoEntry) {
		t.Errorf("an entry beyond the tail: %v", err)
	}
	m := page(t, s, wire.PageQuery{Conversation: talk, Limit: 200}, 0)
	recalled := 0
	for _, data := range m.Entries {
		var e wire.Entry
		if err := json.Unmarshal(data, &e); err != nil {
			t.Fatal(err)
		}
		if e.Recalled {
			recalled++
		}
	}
	if recalled != jetstream.MaxEdits+2 {
		t.Errorf("%d entries are recalled", recalled)
	}
}
