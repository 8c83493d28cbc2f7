package jetstream_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/jetstream/jetstreamtest"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// counting is the spec of the tests.
func counting() []jetstream.ConsumerSpec {
	return []jetstream.ConsumerSpec{{Function: "counter", Entries: true}}
}

// speak appends a message to a conversation.
func speak(t *testing.T, s *jetstream.Store, c subjects.Conversation) {
	t.Helper()
	tail, err := s.Tail(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	draft := jetstream.Draft{Kind: wire.KindMessage, From: "ada", ClientID: "c-" + string(rune('a'+tail.Seq)), Body: []byte(`{"text":"hi"}`)}
	if _, err := s.Append(t.Context(), c, tail, draft); err != nil {
		t.Fatal(err)
	}
}

// pull takes at most n messages of a function's consumer and returns their acknowledgement subjects.
func pull(t *testing.T, nc *nats.Conn, stream string, n int) []string {
	t.Helper()
	inbox := nc.NewInbox()
	sub, err := nc.SubscribeSync(inbox)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	body := `{"no_wait":true,"batch":` + string(rune('0'+n)) + `}`
	if err := nc.PublishRequest(subjects.PullNext(stream, "counter"), inbox, []byte(body)); err != nil {
		t.Fatal(err)
	}
	var acks []string
	for len(acks) < n {
		m, err := sub.NextMsg(5 * time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if m.Header.Get("Status") != "" {
			break
		}
		acks = append(acks, m.Reply)
	}
	return acks
}

// backlog waits for a backlog: a consumer hears of what is stored a moment after it was acknowledged.
func backlog(t *testing.T, nc *nats.Conn, want int) {
	t.Helper()
	eventually(t, fmt.Sprint("a backlog of ", want), func() bool {
		got, err := jetstream.Backlog(t.Context(), nc, "counter")
		if err != nil {
			t.Fatal(err)
		}
		return got == want
	})
}

func TestAFunctionGetsWhatIsStoredAfterItsDeclaration(t *testing.T) {
	t.Parallel()
	server := jetstreamtest.Start(t)
	nc := server.Connect(t)
	store := server.Store(t)
	speak(t, store, "g.general")
	if _, err := jetstream.Backlog(t.Context(), nc, "counter"); !errors.Is(err, jetstream.ErrNotDeclared) {
		t.Errorf("the backlog of a function without consumers: %v", err)
	}
	for range 2 {
		if err := jetstream.DeclareConsumers(t.Context(), nc, counting()); err != nil {
			t.Fatal(err)
		}
	}
	backlog(t, nc, 0)
	speak(t, store, "g.general")
	speak(t, store, "g.a")
	backlog(t, nc, 2)
	acks := pull(t, nc, subjects.StreamOf("g.general"), 5)
	if len(acks) != 1 {
		t.Fatalf("got %q", acks)
	}
	backlog(t, nc, 2) // what is in hand counts
	if _, err := nc.Request(acks[0], []byte("+ACK"), 5*time.Second); err != nil {
		t.Fatal(err)
	}
	backlog(t, nc, 1)
	if _, err := nc.Request(subjects.Job("counter", "count"), []byte("{}"), 5*time.Second); err != nil {
		t.Fatal(err)
	}
	if _, err := nc.Request(subjects.Job("other", "count"), []byte("{}"), 5*time.Second); err != nil {
		t.Fatal(err)
	}
	backlog(t, nc, 2)
	server.Restart(t)
	if err := jetstream.DeclareConsumers(t.Context(), nc, counting()); err != nil {
		t.Fatal(err)
	}
	backlog(t, nc, 2)
	if err := jetstream.RemoveConsumers(t.Context(), nc, "counter"); err != nil {
		t.Fatal(err)
	}
	if err := jetstream.RemoveConsumers(t.Context(), nc, "counter"); err != nil {
		t.Errorf("remove again: %v", err)
	}
	if _, err := jetstream.Backlog(t.Context(), nc, "counter"); !errors.Is(err, jetstream.ErrNotDeclared) {
		t.Errorf("the backlog after removal: %v", err)
	}
}

func TestConsumersAreBroughtUpToDate(t *testing.T) {
	t.Parallel()
	server := jetstreamtest.Start(t)
	nc := server.Connect(t)
	server.Store(t)
	for _, specs := range [][]jetstream.ConsumerSpec{counting(), {{Function: "counter", Entries: true, HandTime: time.Minute, Pending: 7}}} {
		if err := jetstream.DeclareConsumers(t.Context(), nc, specs); err != nil {
			t.Fatal(err)
		}
	}
	for _, stream := range []string{subjects.MessagesStream(5), subjects.StreamJobs} {
		info, err := nc.Request(subjects.ConsumerInfo(stream, "counter"), nil, 5*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{
			`"durable_name":"counter"`, `"ack_wait":60000000000`, `"max_ack_pending":7`, `"max_deliver":-1`, `"ack_policy":"explicit"`,
			`"confab.view":"nats consumer info ` + stream + ` counter"`,
		} {
			if !strings.Contains(string(info.Data), want) {
				t.Errorf("%s: %s has no %s", stream, info.Data, want)
			}
		}
	}
	if err := jetstream.DeclareConsumers(t.Context(), nc, []jetstream.ConsumerSpec{{Function: "later", Jobs: true}}); err != nil {
		t.Fatal(err)
	}
	if got, err := jetstream.Backlog(t.Context(), nc, "later"); err != nil || got != 0 {
		t.Errorf("the backlog of a function with jobs alone: %d, %v", got, err)
	}
	if err := jetstream.Rewind(t.Context(), nc, "later", time.Time{}); !errors.Is(err, jetstream.ErrNotDeclared) {
		t.Errorf("rewind a function without entries: %v", err)
	}
}

func TestManyDeclarersAgree(t *testing.T) {
	t.Parallel()
	server := jetstreamtest.Start(t)
	server.Store(t)
	errs := make(chan error, 4)
	for range cap(errs) {
		nc := server.Connect(t)
		go func() { errs <- jetstream.DeclareConsumers(context.Background(), nc, counting()) }()
	}
	for range cap(errs) {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	backlog(t, server.Connect(t), 0)
}

func TestRewindHandsEntriesOverAgain(t *testing.T) {
	t.Parallel()
	server := jetstreamtest.Start(t)
	nc := server.Connect(t)
	store := server.Store(t)
	if err := jetstream.DeclareConsumers(t.Context(), nc, counting()); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	speak(t, store, "g.general")
	speak(t, store, "g.general")
	middle := time.Now()
	speak(t, store, "g.general")
	stream := subjects.StreamOf("g.general")
	for _, ack := range pull(t, nc, stream, 3) {
		if _, err := nc.Request(ack, []byte("+ACK"), 5*time.Second); err != nil {
			t.Fatal(err)
		}
	}
	backlog(t, nc, 0)
	for _, c := range []struct {
		since time.Time
		want  int
	}{{began, 3}, {middle, 1}, {time.Time{}, 3}, {time.Now(), 0}} {
		if err := jetstream.Rewind(t.Context(), nc, "counter", c.since); err != nil {
			t.Fatal(err)
		}
		backlog(t, nc, c.want)
	}
}

func TestADeclarationMendsARewindThatWasCutShort(t *testing.T) {
	t.Parallel()
	server := jetstreamtest.Start(t)
	nc := server.Connect(t)
	store := server.Store(t)
	if err := jetstream.DeclareConsumers(t.Context(), nc, counting()); err != nil {
		t.Fatal(err)
	}
	speak(t, store, "g.general")
	// What is left when the deployer dies between the two halves.
	if _, err := nc.Request("$JS.API.CONSUMER.DELETE."+subjects.StreamOf("g.general")+".counter", nil, 5*time.Second); err != nil {
		t.Fatal(err)
	}
	backlog(t, nc, 0)
	if err := jetstream.DeclareConsumers(t.Context(), nc, counting()); err != nil {
		t.Fatal(err)
	}
	backlog(t, nc, 1)
}
