package jetstream_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
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

// pagesOf returns a reader that seals what it reads until the test ends; memory is what it may remember, in bytes.
func pagesOf(t testing.TB, s *jetstream.Store, memory int) *jetstream.Pages {
	t.Helper()
	p := jetstream.NewPages(s, memory)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { p.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
	for deadline := time.Now().Add(30 * time.Second); !p.Seals(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nothing is sealed: there is no bucket")
		}
	}
	return p
}

// read is Page of a reader for somebody who sees everything from a seq on.
func read(t testing.TB, p *jetstream.Pages, q wire.PageQuery, from wire.Seq) wire.Page {
	t.Helper()
	page, err := p.Page(t.Context(), q, func(context.Context) (wire.Seq, error) { return from, nil })
	if err != nil {
		t.Fatal(err)
	}
	return page
}

// sealedRecord returns what IM_PAGES holds of a page: nil for nothing, and no data for a claim.
func sealedRecord(t testing.TB, s *jetstream.Store, c subjects.Conversation, page uint64) *jetstream.RawMsg {
	t.Helper()
	msg, err := jetstream.LastDirect(s, context.Background(), subjects.BucketStream(subjects.BucketPages), subjects.BucketSubject(subjects.BucketPages, subjects.PageKey(c, page)))
	if err != nil && !errors.Is(err, jetstream.ErrNotFound) {
		t.Fatal(err)
	}
	return msg
}

// seal reads a page until it is sealed.
func seal(t testing.TB, s *jetstream.Store, p *jetstream.Pages, c subjects.Conversation, page uint64) {
	t.Helper()
	after := wire.Seq(page * jetstream.PageSize)
	eventually(t, "the page's seal", func() bool {
		read(t, p, wire.PageQuery{Conversation: c, After: &after, Limit: 10}, 0)
		msg := sealedRecord(t, s, c, page)
		return msg != nil && len(msg.Data) > 0
	})
}

// TestSealedPagesSayWhatTheLogSays reads a log in which a lot is changed, with readers that remember, that remember too little, and that remember nothing.
func TestSealedPagesSayWhatTheLogSays(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	_, s, lame := denying(t, subjects.BucketSubject(subjects.BucketAmends, ">"))
	readers := []*jetstream.Pages{pagesOf(t, s, 1<<20), pagesOf(t, s, 30<<10), pagesOf(t, s, -1)}
	w := newWriter(t, s, talk)
	m := &model{conv: talk}
	check := func() {
		t.Helper()
		head := wire.Seq(len(m.entries))
		for _, p := range readers {
			limit := wire.Seq(1 + random.IntN(90))
			lo := wire.Seq(1 + random.IntN(int(head)))
			hi := min(head, lo+limit-1)
			from := wire.Seq(1 + random.IntN(int(lo)))
			after := lo - 1
			q := wire.PageQuery{Conversation: talk, After: &after, Limit: int(limit)}
			same(t, read(t, p, q, from), m.want(t, from, lo, hi))
			q = wire.PageQuery{Conversation: talk, Limit: int(limit), AtLeast: head}
			lo = max(from, head+1-min(head, limit))
			same(t, read(t, p, q, from), m.want(t, from, lo, head))
		}
	}
	for i := range 250 {
		d := m.next(random)
		d.ClientID = fmt.Sprint("c-", i)
		if amends := d.Target != 0; amends && random.IntN(40) == 0 {
			m.add(t, crash(t, lame, w, d).Entry)
			check()
			w.tail = jetstream.Tail{} // the next appender is another process
			continue
		}
		m.add(t, w.append(d).Entry)
		if random.IntN(2) == 0 { // most tails are seen after the one before, and some are not
			check()
		}
	}
	m.add(t, w.append(message("ada", "the last one settles what is open")).Entry)
	for range 50 {
		check()
	}
	for page := range uint64(len(m.entries) / jetstream.PageSize) {
		seal(t, s, readers[2], talk, page)
	}
	for range 50 {
		check()
	}
}

// TestARecallReachesSealedPages recalls from a page that several readers seal all the while. When a recall has returned, what it recalled stands nowhere.
func TestARecallReachesSealedPages(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	server := jetstreamtest.Start(t, jetstreamtest.Configure(func(o *server.Options) { o.StoreDir = dir }))
	s := server.Store(t)
	w := newWriter(t, s, talk)
	canary := func(n int) string { return fmt.Sprintf("canary-%d-%x.", n, n*7919+1000) }
	for n := range jetstream.PageSize {
		w.post("ada", canary(n))
	}
	w.post("ada", "the first of the next page")
	var (
		stop    = make(chan struct{})
		reading sync.WaitGroup
	)
	for range 2 {
		p := pagesOf(t, server.Store(t), -1)
		reading.Go(func() {
			zero := wire.Seq(0)
			for {
				select {
				case <-stop:
					return
				default:
					if _, err := p.Page(t.Context(), wire.PageQuery{Conversation: talk, After: &zero, Limit: 64}, func(context.Context) (wire.Seq, error) { return 1, nil }); err != nil {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	met := 0
	const recalls = jetstream.PageSize / 2
	for n := range recalls {
		for range random(n) { // sometimes a sealed page, sometimes one that is being sealed, sometimes none
			if msg := sealedRecord(t, s, talk, 0); msg != nil && len(msg.Data) > 0 {
				met++
				break
			}
		}
		w.append(recallOf(wire.Seq(n+1), "ada"))
		if msg := sealedRecord(t, s, talk, 0); msg != nil && strings.Contains(string(msg.Data), canary(n)) {
			t.Fatalf("entry %d was recalled and is still sealed", n+1)
		}
		if path := grep(t, filepath.Join(dir, "jetstream"), []byte(canary(n))); path != "" {
			t.Fatalf("entry %d was recalled and still stands in %s", n+1, strings.TrimPrefix(path, dir))
		}
	}
	close(stop)
	reading.Wait()
	if met == 0 {
		t.Error("no recall met a sealed page: the test has no force")
	}
	t.Logf("%d of %d recalls met a sealed page", met, recalls)
}

// TestASealIsOvertakenByARecall recalls between the two steps of a seal: the claim with the reading, and the record.
func TestASealIsOvertakenByARecall(t *testing.T) {
	t.Parallel()
	server := jetstreamtest.Start(t)
	s := server.Store(t)
	w := newWriter(t, s, talk)
	for n := range jetstream.PageSize {
		w.post("ada", fmt.Sprint("text ", n))
	}
	client, err := js.New(server.Connect(t))
	if err != nil {
		t.Fatal(err)
	}
	bucket, err := client.Stream(t.Context(), subjects.BucketStream(subjects.BucketPages))
	if err != nil {
		t.Fatal(err)
	}
	begin := func() (end func() error) {
		t.Helper()
		end, err := s.BeginSeal(t.Context(), talk, 0)
		if err != nil {
			t.Fatal(err)
		}
		return end
	}
	purge := func() {
		t.Helper()
		if err := bucket.Purge(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	recall := func(seq wire.Seq) { w.append(recallOf(seq, "ada")) }
	for name, between := range map[string]func(){
		"a recall":                      func() { recall(3) },
		"a recall, and another's claim": func() { recall(4); begin() },
		"a recall, and another's seal":  func() { recall(5); seal(t, s, pagesOf(t, s, -1), talk, 0) },
		"the bucket emptied":            purge,
		"a recall after that":           func() { purge(); recall(6) },
		"one before that":               func() { recall(7); purge() },
		"and another's claim after":     func() { recall(8); purge(); begin() },
	} {
		end := begin()
		between()
		if err := end(); !errors.Is(err, jetstream.ErrConflict) {
			t.Errorf("%s came between, and the seal ended with %v", name, err)
		}
		purge()
	}
	// Two who seal the same page share a claim; the first one's record stays until a recall takes it.
	one, other := begin(), begin()
	if err := one(); err != nil {
		t.Error(err)
	}
	if err := other(); !errors.Is(err, jetstream.ErrConflict) {
		t.Errorf("the second seal ended with %v", err)
	}
	recall(9)
	if msg := sealedRecord(t, s, talk, 0); msg != nil {
		t.Errorf("after a recall there is %q", msg.Data)
	}
}

func random(n int) int { return []int{0, 1, 10, 200}[n%4] }

// TestSealedPagesOfAnOlderRecall has a recall not reach a sealed page, as one of a release that knows of none. Who reads the page does not show what was
// recalled, and has it erased.
func TestSealedPagesOfAnOlderRecall(t *testing.T) {
	t.Parallel()
	_, s, lame := denying(t, subjects.LeaderRead(subjects.BucketStream(subjects.BucketPages)))
	w := newWriter(t, s, talk)
	for n := range jetstream.PageSize + 1 {
		w.post("ada", fmt.Sprint("text ", n))
	}
	readers := []*jetstream.Pages{pagesOf(t, s, 1<<20), pagesOf(t, s, -1)}
	seal(t, s, readers[0], talk, 0)
	crash(t, lame, w, recallOf(5, "ada"))
	for _, p := range readers {
		before := wire.Seq(9)
		if got := read(t, p, wire.PageQuery{Conversation: talk, Before: &before}, 0); len(got.Entries) != 8 || strings.Contains(string(got.Entries[4]), "text 4") {
			t.Errorf("after the recall the page reads %s", got.Entries)
		}
	}
	eventually(t, "the page's erasure", func() bool {
		before := wire.Seq(9)
		read(t, readers[1], wire.PageQuery{Conversation: talk, Before: &before}, 0)
		msg := sealedRecord(t, s, talk, 0)
		return msg == nil || !strings.Contains(string(msg.Data), "text 4")
	})
}

// TestWhatRetentionTookIsNotSealed purges the log under sealed and remembered pages.
func TestWhatRetentionTookIsNotSealed(t *testing.T) {
	t.Parallel()
	server := jetstreamtest.Start(t)
	s := server.Store(t)
	w := long(t, s, talk, 3*jetstream.PageSize)
	fresh, remembering := pagesOf(t, s, -1), pagesOf(t, s, 1<<20)
	for page := range uint64(2) {
		seal(t, s, remembering, talk, page)
	}
	client, err := js.New(server.Connect(t))
	if err != nil {
		t.Fatal(err)
	}
	stream, err := client.Stream(t.Context(), subjects.StreamOf(talk))
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Purge(t.Context(), js.WithPurgeSequence(w.tail.Stream()-jetstream.PageSize+1)); err != nil {
		t.Fatal(err)
	}
	remembering.Distrust()
	for _, p := range []*jetstream.Pages{fresh, remembering} {
		got := read(t, p, wire.PageQuery{Conversation: talk, Limit: 200}, 0)
		if len(got.Entries) != jetstream.PageSize || got.First != 2*jetstream.PageSize+1 || got.MoreBefore {
			t.Errorf("after the purge there are %d entries from %d, more: %v", len(got.Entries), got.First, got.MoreBefore)
		}
		before := wire.Seq(40)
		if _, err := p.Page(t.Context(), wire.PageQuery{Conversation: talk, Before: &before}, func(context.Context) (wire.Seq, error) { return 1, nil }); !errors.Is(err, jetstream.ErrErased) {
			t.Errorf("a page that was purged: %v", err)
		}
	}
	eventually(t, "the erasure of the sealed pages", func() bool {
		read(t, fresh, wire.PageQuery{Conversation: talk, Limit: 200}, 0)
		return sealedRecord(t, s, talk, 1) == nil || len(sealedRecord(t, s, talk, 1).Data) == 0
	})
}

// TestSealedPagesMayBeMissing reads a store that an older release declared, and one whose bucket is full or was emptied.
func TestSealedPagesMayBeMissing(t *testing.T) {
	t.Parallel()
	server := jetstreamtest.Start(t)
	s := server.Store(t)
	w := long(t, s, talk, 2*jetstream.PageSize)
	p := pagesOf(t, s, 1<<20)
	seal(t, s, p, talk, 0)
	client, err := js.New(server.Connect(t))
	if err != nil {
		t.Fatal(err)
	}
	name := subjects.BucketStream(subjects.BucketPages)
	stream, err := client.Stream(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	config := stream.CachedInfo().Config
	config.MaxBytes = 100
	if _, err := client.UpdateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	readAll := func(p *jetstream.Pages, head int) {
		t.Helper()
		if got := read(t, p, wire.PageQuery{Conversation: talk, Limit: 200}, 0); len(got.Entries) != head {
			t.Errorf("%d entries, want %d", len(got.Entries), head)
		}
	}
	full := pagesOf(t, s, -1)
	readAll(full, 2*jetstream.PageSize)
	readAll(full, 2*jetstream.PageSize)
	if err := stream.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	readAll(full, 2*jetstream.PageSize)
	if err := client.DeleteStream(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	without := jetstream.NewPages(s, -1)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { without.Run(ctx) })
	readAll(without, 2*jetstream.PageSize)
	w.append(recallOf(5, "ada"))
	if !w.tail.Settled() {
		t.Error("without the bucket a recall is not settled")
	}
	readAll(without, 2*jetstream.PageSize+1)
	cancel()
	running.Wait()
	if without.Seals() {
		t.Error("it seals where there is no bucket")
	}
}

// TestForgedPagesAreNotBelieved puts records in the place of sealed pages that are copies of others.
func TestForgedPagesAreNotBelieved(t *testing.T) {
	t.Parallel()
	s := jetstreamtest.Start(t).Store(t)
	long(t, s, talk, 3*jetstream.PageSize)
	long(t, s, "g.other", 3*jetstream.PageSize)
	p := pagesOf(t, s, 1<<20)
	for page := range uint64(2) {
		seal(t, s, p, talk, page)
		seal(t, s, p, "g.other", page)
	}
	own := sealedRecord(t, s, talk, 0)
	for name, forged := range map[string]*jetstream.RawMsg{
		"of another conversation": sealedRecord(t, s, "g.other", 0),
		"of another page":         sealedRecord(t, s, talk, 1),
		"no page":                 {Data: []byte(`{"stream":"KV_IM_PAGES","seq":7}`)},
		"cut off":                 {Header: own.Header, Data: own.Data[:len(own.Data)/2]},
	} {
		header := nats.Header{}
		for _, key := range []string{subjects.HeaderPage, subjects.HeaderBack} {
			header.Set(key, forged.Header.Get(key))
		}
		if _, err := jetstream.Publish(s, t.Context(), own.Subject, header, forged.Data); err != nil {
			t.Fatal(err)
		}
		got := read(t, pagesOf(t, s, -1), wire.PageQuery{Conversation: talk, After: pointer(wire.Seq(0)), Limit: 64}, 0)
		if len(got.Entries) != 64 || !slices.ContainsFunc(got.Entries, func(e json.RawMessage) bool { return contains(e, `"message 33"`) }) {
			t.Errorf("%s: %d entries", name, len(got.Entries))
		}
	}
	seal(t, s, pagesOf(t, s, -1), talk, 0)
	eventually(t, "a sound record in place of the forged one", func() bool {
		read(t, pagesOf(t, s, -1), wire.PageQuery{Conversation: talk, After: pointer(wire.Seq(0)), Limit: 64}, 0)
		msg := sealedRecord(t, s, talk, 0)
		return msg != nil && string(msg.Data) == string(own.Data)
	})
}
