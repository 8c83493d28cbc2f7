package functions_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/functions/functionstest"
	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/jetstream/jetstreamtest"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// patient bounds every wait of the tests of entries and jobs.
const patient = 30 * time.Second

// log is a server with a store, and what its tests say in conversations.
type log struct {
	*testing.T
	server *jetstreamtest.Server
	store  *jetstream.Store
	nc     *nats.Conn
	tails  map[subjects.Conversation]jetstream.Tail
}

// newLog declares the consumers of a function "counter" with entries and jobs.
func newLog(t *testing.T, spec jetstream.ConsumerSpec) *log {
	t.Helper()
	l := &log{T: t, server: jetstreamtest.Start(t), tails: map[subjects.Conversation]jetstream.Tail{}}
	l.store, l.nc = l.server.Store(t), l.server.Connect(t)
	spec.Function, spec.Entries = "counter", true
	if err := jetstream.DeclareConsumers(t.Context(), l.nc, []jetstream.ConsumerSpec{spec}); err != nil {
		t.Fatal(err)
	}
	return l
}

// say appends a message and returns its seq.
func (l *log) say(c subjects.Conversation, text string) wire.Seq {
	l.Helper()
	return l.append(c, jetstream.Draft{Kind: wire.KindMessage, Body: functionstest.Text("%s", text)})
}

func (l *log) append(c subjects.Conversation, d jetstream.Draft) wire.Seq {
	l.Helper()
	d.From, d.ClientID = "ada", functionstest.ClientID()
	appended, err := l.store.Append(l.Context(), c, l.tails[c], d)
	if err != nil {
		l.Fatalf("append to %s: %v", c, err)
	}
	l.tails[c] = appended.Tail
	return appended.Entry.Seq
}

// done waits until the function has nothing left to do. The server counts what was just stored a moment after it has acknowledged it, so that one look may find nothing
// where there is something: ten in a row do.
func (l *log) done() {
	l.Helper()
	empty := 0
	waitFor(l.T, "an empty backlog", func() bool {
		n, err := jetstream.Backlog(l.Context(), l.nc, "counter")
		if empty++; err != nil || n > 0 {
			empty = 0
		}
		return empty >= 10
	})
}

// dead waits for a number of dead letters and returns them.
func (l *log) dead(want int) []wire.DeadLetter {
	l.Helper()
	var letters []wire.DeadLetter
	waitFor(l.T, fmt.Sprintf("%d dead letters", want), func() bool {
		kept, _, err := l.store.DeadLetters(l.Context(), "counter", 0, 1000)
		if err != nil {
			l.Fatal(err)
		}
		letters = nil
		for _, letter := range kept {
			letters = append(letters, letter.DeadLetter)
		}
		return len(letters) >= want
	})
	if len(letters) != want {
		l.Errorf("%d dead letters, want %d: %+v", len(letters), want, letters)
	}
	return letters
}

func waitFor(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patient); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("no %s after %v", what, patient)
		}
	}
}

// seen collects what handlers were handed.
type seen struct {
	mu      sync.Mutex
	entries []wire.Entry
	tries   []int
}

func (s *seen) add(call *functions.Call, e *wire.Entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.entries, s.tries = append(s.entries, *e), append(s.tries, call.Attempt)
}

// of returns the seqs of a conversation in the order of handing over.
func (s *seen) of(c subjects.Conversation) []wire.Seq {
	s.mu.Lock()
	defer s.mu.Unlock()
	var seqs []wire.Seq
	for _, e := range s.entries {
		if e.Conversation == c {
			seqs = append(seqs, e.Seq)
		}
	}
	return seqs
}

func (s *seen) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.entries)
}

// counter is a function on messages that notes what it gets and then does what handle says.
func counter(s *seen, handle func(ctx context.Context, call *functions.Call, e *wire.Entry) error, kinds ...wire.EntryKind) functions.Function {
	if kinds == nil {
		kinds = []wire.EntryKind{wire.KindMessage}
	}
	return functions.Function{
		Name: "counter", Description: "Counts messages", Events: functions.Events{Kinds: kinds, Timeout: patient},
		Retry: functions.Retry{Attempts: 3, Backoff: []time.Duration{50 * time.Millisecond, 100 * time.Millisecond}},
		New: func(context.Context, functions.Env) (functions.Handlers, error) {
			return functions.Handlers{wire.MethodEntry: functions.HandleEntry(func(ctx context.Context, call *functions.Call, e *wire.Entry) error {
				s.add(call, e)
				if handle == nil {
					return nil
				}
				return handle(ctx, call, e)
			})}, nil
		},
	}
}

func TestEntriesAreHandedOverInOrder(t *testing.T) {
	t.Parallel()
	l := newLog(t, jetstream.ConsumerSpec{})
	var s seen
	l.say("g.a", "while it sleeps")
	functionstest.Run(t, l.nc, counter(&s, nil))
	var want []wire.Seq
	for i := range 40 {
		l.say("g.b", fmt.Sprint(i))
		want = append(want, l.say("g.a", fmt.Sprint(i)))
	}
	l.append("g.a", jetstream.Draft{Kind: wire.KindMember, Body: json.RawMessage(`{"user":"bob","change":"added","by":"ada"}`)})
	l.done()
	if got := s.of("g.a"); !slices.Equal(got, append([]wire.Seq{1}, want...)) {
		t.Errorf("g.a came as %d", got)
	}
	if got := s.of("g.b"); len(got) != 40 || !slices.IsSorted(got) {
		t.Errorf("g.b came as %d", got)
	}
	first := slices.IndexFunc(s.entries, func(e wire.Entry) bool { return e.Conversation == "g.a" })
	if slices.Max(s.tries) != 1 || string(s.entries[first].Body) != `{"text":"while it sleeps"}` {
		t.Errorf("tries %v, first %+v", s.tries, s.entries[first])
	}
}

func TestAnEntryThatFailsIsTriedAgainAndHoldsUpNobody(t *testing.T) {
	t.Parallel()
	l := newLog(t, jetstream.ConsumerSpec{})
	var s seen
	functionstest.Run(t, l.nc, counter(&s, func(_ context.Context, call *functions.Call, e *wire.Entry) error {
		switch text := string(e.Body); {
		case strings.Contains(text, "twice") && call.Attempt < 3:
			return errors.New("not yet")
		case strings.Contains(text, "poison"):
			panic("poisoned")
		case strings.Contains(text, "refused"):
			return fmt.Errorf("look it up: %w", wire.Errorf(wire.NotFound, "There is no such thing."))
		}
		return nil
	}))
	for _, text := range []string{"poison", "twice", "refused", "good"} {
		l.say("g.a", text)
	}
	waitFor(t, "eight tries", func() bool { return len(s.of("g.a")) >= 8 })
	l.done()
	got := s.of("g.a")
	for seq, times := range map[wire.Seq]int{1: 3, 2: 3, 3: 1, 4: 1} {
		n := 0
		for _, g := range got {
			if g == seq {
				n++
			}
		}
		if n != times {
			t.Errorf("entry %d was handed over %d times, want %d", seq, n, times)
		}
	}
	if good := slices.Index(got, 4); !slices.Contains(got[good+1:], 1) {
		t.Errorf("the good entry waited for the others: %d", got)
	}
	for _, letter := range l.dead(2) {
		e := letter.Entry
		if e == nil || e.Conversation != "g.a" || e.Body != nil || letter.Stream != subjects.StreamOf("g.a") || letter.Sequence == 0 {
			t.Errorf("a dead letter %+v", letter)
			continue
		}
		switch {
		case e.Seq == 1 && letter.Code == wire.Internal && letter.Attempts == 3:
		case e.Seq == 3 && letter.Code == wire.NotFound && letter.Attempts == 1 && strings.HasPrefix(letter.Message, "look it up"):
		default:
			t.Errorf("a dead letter %+v of %+v", letter, e)
		}
	}
}

func TestAnEntryOutlivesTheInstanceThatHasIt(t *testing.T) {
	t.Parallel()
	l := newLog(t, jetstream.ConsumerSpec{HandTime: time.Second})
	began := make(chan struct{}, 10)
	var s seen
	nc := l.server.Connect(t)
	ended := make(chan error, 1)
	go func() {
		stuck := counter(&seen{}, func(ctx context.Context, _ *functions.Call, _ *wire.Entry) error {
			began <- struct{}{}
			<-ctx.Done()
			return ctx.Err()
		})
		ended <- functions.Run(context.Background(), stuck, functions.Env{NATS: nc, Log: functionstest.Log(t)}, functions.Options{})
	}()
	l.say("g.a", "one")
	<-began
	nc.Close()
	if err := <-ended; !errors.Is(err, functions.ErrDisconnected) {
		t.Errorf("the instance ended with %v", err)
	}
	functionstest.Run(t, l.nc, counter(&s, nil))
	l.done()
	if s.count() != 1 || s.tries[0] != 2 {
		t.Errorf("the other instance got %+v, tries %v", s.entries, s.tries)
	}
}

func TestLongWorkKeepsItsEntry(t *testing.T) {
	t.Parallel()
	l := newLog(t, jetstream.ConsumerSpec{HandTime: time.Second})
	var s seen
	slow := counter(&s, func(context.Context, *functions.Call, *wire.Entry) error {
		time.Sleep(2500 * time.Millisecond)
		return nil
	})
	for range 2 {
		functionstest.Run(t, l.server.Connect(t), slow, functions.Options{}.WithPing(200*time.Millisecond))
	}
	l.say("g.a", "one")
	l.say("g.a", "waits in the lane meanwhile")
	l.done()
	if got := s.of("g.a"); !slices.Equal(got, []wire.Seq{1, 2}) && !slices.Equal(got, []wire.Seq{2, 1}) {
		t.Errorf("handed over: %d", got)
	}
}

func TestAnErasedMessageIsPassedOver(t *testing.T) {
	t.Parallel()
	l := newLog(t, jetstream.ConsumerSpec{})
	held := make(chan struct{})
	var s seen
	l.say("g.a", "first")
	secret := l.say("g.a", "secret")
	l.say("g.a", "last")
	functionstest.Run(t, l.nc, counter(&s, func(_ context.Context, _ *functions.Call, e *wire.Entry) error {
		if e.Seq == 1 {
			<-held
		}
		return nil
	}))
	waitFor(t, "all in hand", func() bool {
		info, err := l.nc.Request("$JS.API.CONSUMER.INFO."+subjects.StreamOf("g.a")+".counter", nil, patient)
		return err == nil && strings.Contains(string(info.Data), `"num_ack_pending":3`)
	})
	// The others wait in the lane of the first, until they are stale.
	<-time.After(1500 * time.Millisecond)
	info, err := l.nc.Request("$JS.API.STREAM.MSG.DELETE."+subjects.StreamOf("g.a"), fmt.Appendf(nil, `{"seq":%d}`, secret), patient)
	if err != nil || !strings.Contains(string(info.Data), `"success":true`) {
		t.Fatalf("erase: %s, %v", info.Data, err)
	}
	close(held)
	l.done()
	if got := s.of("g.a"); !slices.Equal(got, []wire.Seq{1, 3}) {
		t.Errorf("handed over: %d", got)
	}
}

// Without its consumers a function would wait for ever and look well.
func TestConsumersThatAreGoneAreTold(t *testing.T) {
	t.Parallel()
	l := newLog(t, jetstream.ConsumerSpec{})
	told := make(chan string, 64)
	functionstest.Run(t, l.nc, counter(&seen{}, nil), functions.Options{Stalled: func(reason string) { told <- reason }})
	if err := jetstream.RemoveConsumers(t.Context(), l.nc, "counter"); err != nil {
		t.Fatal(err)
	}
	next := func(what string, is func(reason string) bool) {
		t.Helper()
		for deadline := time.After(patient); ; {
			select {
			case reason := <-told:
				if is(reason) {
					return
				}
			case <-deadline:
				t.Fatalf("not told that %s", what)
			}
		}
	}
	next("nothing can be had", func(reason string) bool { return strings.Contains(reason, "nothing can be had from IM_") })
	if err := jetstream.DeclareConsumers(t.Context(), l.nc, []jetstream.ConsumerSpec{{Function: "counter", Entries: true}}); err != nil {
		t.Fatal(err)
	}
	next("it can be had again", func(reason string) bool { return reason == "" })
}

func TestAReplayHandsEverythingOverAgain(t *testing.T) {
	t.Parallel()
	l := newLog(t, jetstream.ConsumerSpec{})
	var s seen
	functionstest.Run(t, l.nc, counter(&s, nil))
	began := time.Now()
	for i := range 30 {
		l.say(subjects.Conversation(fmt.Sprintf("g.%d", i%5)), "hi")
	}
	l.done()
	if err := jetstream.Rewind(t.Context(), l.nc, "counter", began.Add(-time.Second)); err != nil {
		t.Fatal(err)
	}
	l.done()
	waitFor(t, "60 entries", func() bool { return s.count() == 60 })
	l.say("g.0", "and on")
	waitFor(t, "61 entries", func() bool { return s.count() == 61 })
}

func TestADeadLetterIsHandedOverAgain(t *testing.T) {
	t.Parallel()
	l := newLog(t, jetstream.ConsumerSpec{})
	var s seen
	var mended atomic.Bool
	functionstest.Run(t, l.nc, counter(&s, func(context.Context, *functions.Call, *wire.Entry) error {
		if mended.Load() {
			return nil
		}
		return wire.Errorf(wire.BadData, "Not understood.")
	}))
	l.say("g.a", "one")
	l.say("g.a", "two")
	letters := l.dead(2)
	l.done()
	mended.Store(true)
	// The second one is recalled before somebody tries again.
	if _, err := l.nc.Request("$JS.API.STREAM.MSG.DELETE."+letters[1].Stream, fmt.Appendf(nil, `{"seq":%d}`, letters[1].Sequence), patient); err != nil {
		t.Fatal(err)
	}
	kept, more, err := l.store.DeadLetters(t.Context(), "counter", 0, 10)
	if err != nil || len(kept) != 2 || more {
		t.Fatalf("dead letters: %+v, %v, %v", kept, more, err)
	}
	for _, letter := range kept {
		if err := l.store.Revive(t.Context(), "counter", letter.Sequence); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.store.Revive(t.Context(), "counter", kept[0].Sequence); !errors.Is(err, jetstream.ErrNotFound) {
		t.Errorf("revive again: %v", err)
	}
	l.done()
	if got := s.of("g.a"); !slices.Equal(got, []wire.Seq{1, 2, 1}) {
		t.Errorf("handed over: %d", got)
	}
}

// TestWhatIsGivenUpAgainLeavesALetterAgain: the first one may be forgotten by then, and the stream must not take the second one for its repeat.
func TestWhatIsGivenUpAgainLeavesALetterAgain(t *testing.T) {
	t.Parallel()
	l := newLog(t, jetstream.ConsumerSpec{})
	functionstest.Run(t, l.nc, counter(&seen{}, func(context.Context, *functions.Call, *wire.Entry) error {
		return wire.Errorf(wire.BadData, "Not understood.")
	}))
	l.say("g.a", "one")
	l.dead(1)
	l.done()
	if err := l.store.ForgetDead(t.Context(), "counter", 1); err != nil {
		t.Fatal(err)
	}
	if err := jetstream.Rewind(t.Context(), l.nc, "counter", time.Time{}); err != nil {
		t.Fatal(err)
	}
	l.done()
	if letter := l.dead(1)[0]; letter.Entry == nil || letter.Entry.Seq != 1 {
		t.Errorf("the dead letter is %+v", letter)
	}
}

// natsMsg returns a message with headers.
func natsMsg(subject string, headers map[string]string) *nats.Msg {
	msg := nats.NewMsg(subject)
	for key, value := range headers {
		msg.Header[key] = []string{value}
	}
	msg.Data = []byte("{}")
	return msg
}
