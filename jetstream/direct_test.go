package jetstream_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/jetstream/jetstreamtest"
	"github.com/confab-im/confab/subjects"
)

const room subjects.Conversation = "g.general"

// fill stores n messages in the room and returns their sequences, which are dense.
func fill(t testing.TB, store *jetstream.Store, n, size int) []uint64 {
	t.Helper()
	sequences := make([]uint64, n)
	requests := make([]*nats.Msg, n)
	for i := range requests {
		requests[i] = &nats.Msg{Subject: subjects.Message(room), Data: bytes.Repeat([]byte{'x'}, size), Header: nats.Header{"N": {fmt.Sprint(i)}}}
		sequences[i] = uint64(i + 1)
	}
	if err := jetstream.PublishAll(store, t.Context(), requests); err != nil {
		t.Fatal(err)
	}
	return sequences
}

func TestReadsBySequence(t *testing.T) {
	store := jetstreamtest.Start(t).Store(t)
	stream := subjects.StreamOf(room)
	sequences := fill(t, store, 700, 10)
	for range 2 { // erasing what is erased succeeds
		if err := jetstream.Erase(store, t.Context(), stream, 7); err != nil {
			t.Fatal(err)
		}
	}
	asked := append([]uint64{700, 1, 7, 9999}, sequences...)
	got, err := jetstream.BySequences(store, t.Context(), stream, asked)
	if err != nil || len(got) != len(asked) {
		t.Fatalf("%d messages, %v", len(got), err)
	}
	for i, seq := range asked {
		if gone := seq == 7 || seq > 700; gone != (got[i] == nil) {
			t.Fatalf("message %d: %+v", seq, got[i])
		} else if !gone && (got[i].Sequence != seq || got[i].Header.Get("N") != fmt.Sprint(seq-1) || got[i].Subject != subjects.Message(room) || len(got[i].Data) != 10) {
			t.Fatalf("message %d: %+v", seq, got[i])
		}
	}
	if got, err := jetstream.BySequences(store, t.Context(), stream, nil); err != nil || len(got) != 0 {
		t.Errorf("nothing asked: %v, %v", got, err)
	}
	leader, err := jetstream.SequenceFromLeader(store, t.Context(), stream, 700)
	if err != nil || leader.Header.Get("N") != "699" || leader.Time != got[0].Time || !bytes.Equal(leader.Data, got[0].Data) {
		t.Errorf("the leader reads %+v, %v; a replica %+v", leader, err, got[0])
	}
	if _, err := jetstream.SequenceFromLeader(store, t.Context(), stream, 7); !errors.Is(err, jetstream.ErrNotFound) {
		t.Errorf("an erased message from the leader: %v", err)
	}
	for seq, want := range map[uint64]error{700: nil, 7: jetstream.ErrNotFound, 701: jetstream.ErrUnavailable} { // no leader that has come so far says that 701 was erased
		if _, err := jetstream.StoredFromLeader(store, t.Context(), stream, seq); !errors.Is(err, want) {
			t.Errorf("message %d, which was stored: %v, want %v", seq, err, want)
		}
	}
}

// TestTheNewestIsReadDirectlyFromAServerAlone has one connection write and another read, also after the server was restarted, and taps whom the reads ask: a direct read is as good as the leader's
// answer only where nobody else can have a copy.
func TestTheNewestIsReadDirectlyFromAServerAlone(t *testing.T) {
	stream, subject := subjects.StreamOf(room), subjects.Message(room)
	for name, of := range map[string]struct {
		options []jetstreamtest.Option
		asked   string
	}{
		"alone":        {nil, subjects.DirectReadLast(stream, subject)},
		"of a cluster": {[]jetstreamtest.Option{jetstreamtest.OfCluster()}, subjects.LeaderRead(stream)},
	} {
		t.Run(name, func(t *testing.T) {
			server := jetstreamtest.Start(t, of.options...)
			writer, reader := server.Store(t), server.Store(t)
			tap := server.Connect(t)
			asked, err := tap.SubscribeSync(of.asked)
			if err == nil {
				err = tap.Flush()
			}
			if err != nil {
				t.Fatal(err)
			}
			const rounds, writes = 3, 100
			for round := range rounds {
				for range writes {
					stored, err := jetstream.Publish(writer, t.Context(), subject, nil, []byte("x"))
					if err != nil {
						t.Fatal(err)
					}
					if got, err := jetstream.Newest(reader, t.Context(), stream, subject); err != nil || got.Sequence != stored.Sequence {
						t.Fatalf("round %d: after the acknowledgement of message %d is read %+v, %v", round, stored.Sequence, got, err)
					}
				}
				if round == 0 {
					eventually(t, "the sight of every read", func() bool { n, _, err := asked.Pending(); return err == nil && n == writes })
				}
				server.Restart(t)
				if got, err := jetstream.Newest(reader, t.Context(), stream, subject); err != nil || got.Sequence != uint64((round+1)*writes) {
					t.Fatalf("after restart %d is read %+v, %v", round, got, err)
				}
			}
		})
	}
}

func TestLastUnderASubject(t *testing.T) {
	store := jetstreamtest.Start(t).Store(t)
	fill(t, store, 3, 10)
	for name, read := range map[string]func(*jetstream.Store, context.Context, string, string) (*jetstream.RawMsg, error){
		"leader": jetstream.LastFromLeader, "direct": jetstream.LastDirect,
	} {
		msg, err := read(store, t.Context(), subjects.StreamOf(room), subjects.Message(room))
		if err != nil || msg.Sequence != 3 || msg.Subject != subjects.Message(room) || msg.Header.Get("N") != "2" {
			t.Errorf("%s: %+v, %v", name, msg, err)
		}
		if _, err := read(store, t.Context(), subjects.StreamOf(room), subjects.Message(room)+"x"); !errors.Is(err, jetstream.ErrNotFound) {
			t.Errorf("%s: of an empty subject: %v", name, err)
		}
	}
}

// What this server answers is read the quick way: another one may write it differently, and nothing but the time would tell.
func TestAcknowledgementsOfThisServerAreReadTheQuickWay(t *testing.T) {
	for name, options := range map[string][]jetstreamtest.Option{
		"without a domain": nil, "in a domain": {jetstreamtest.Configure(func(o *server.Options) { o.JetStreamDomain = "hub" })},
	} {
		t.Run(name, func(t *testing.T) {
			store := jetstreamtest.Start(t, options...).Store(t)
			for _, duplicate := range []bool{false, true} {
				msg := &nats.Msg{Subject: subjects.Message(room), Header: nats.Header{"Nats-Msg-Id": {"a"}}, Data: []byte("{}")}
				reply, err := store.Conn().RequestMsgWithContext(t.Context(), msg)
				if err != nil {
					t.Fatal(err)
				}
				if a, ok := jetstream.PlainAck(reply.Data); !ok || a.Stream != subjects.StreamOf(room) || a.Sequence != 1 || a.Duplicate != duplicate {
					t.Errorf("%s is read as %+v, %v", reply.Data, a, ok)
				}
			}
		})
	}
}

func TestPublishTellsWhyNot(t *testing.T) {
	store := jetstreamtest.Start(t).Store(t)
	header := func(pairs ...string) nats.Header {
		h := nats.Header{}
		for i := 0; i < len(pairs); i += 2 {
			h.Set(pairs[i], pairs[i+1])
		}
		return h
	}
	first, err := jetstream.Publish(store, t.Context(), subjects.Message(room), header("Nats-Msg-Id", "a", "Nats-Expected-Last-Subject-Sequence", "0"), []byte("{}"))
	if err != nil || first.Sequence != 1 || first.Duplicate || first.Stream != subjects.StreamOf(room) {
		t.Fatalf("first: %+v, %v", first, err)
	}
	again, err := jetstream.Publish(store, t.Context(), subjects.Message(room), header("Nats-Msg-Id", "a"), []byte("{}"))
	if err != nil || again.Sequence != 1 || !again.Duplicate {
		t.Errorf("again: %+v, %v", again, err)
	}
	_, err = jetstream.Publish(store, t.Context(), subjects.Message(room), header("Nats-Expected-Last-Subject-Sequence", "9"), []byte("{}"))
	if !errors.Is(err, jetstream.ErrConflict) || !strings.Contains(err.Error(), "10071") {
		t.Errorf("a wrong expectation: %v", err)
	}
	_, err = jetstream.Publish(store, t.Context(), subjects.Message(room), nil, make([]byte, jetstream.MaxEntry+1))
	if !errors.Is(err, jetstream.ErrTooLarge) {
		t.Errorf("too large for the stream: %v", err)
	}
	_, err = jetstream.Publish(store, t.Context(), subjects.Message(room), nil, make([]byte, 2<<20))
	if !errors.Is(err, jetstream.ErrTooLarge) {
		t.Errorf("too large for the connection: %v", err)
	}
	_, err = jetstream.Publish(store, t.Context(), subjects.Live(room), nil, nil)
	if !errors.Is(err, jetstream.ErrUnavailable) || !errors.Is(err, nats.ErrNoResponders) {
		t.Errorf("where no stream listens: %v", err)
	}
}

func TestAFullStreamIsUnavailable(t *testing.T) {
	s := jetstreamtest.Start(t)
	nc := s.Connect(t)
	if err := jetstream.Declare(t.Context(), nc, jetstream.Profile{MaxBytes: 64 << 10}); err != nil {
		t.Fatal(err)
	}
	store, err := jetstream.Open(t.Context(), nc)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	for range 10 {
		if _, err = jetstream.Publish(store, t.Context(), subjects.Message(room), nil, make([]byte, 16<<10)); err != nil {
			break
		}
	}
	if !errors.Is(err, jetstream.ErrUnavailable) {
		t.Errorf("over max bytes: %v", err)
	}
}

func TestMultiLast(t *testing.T) {
	store := jetstreamtest.Start(t).Store(t)
	const n = 3000
	requests := make([]*nats.Msg, 0, n)
	names := make([]string, 0, n)
	for i := range n {
		subject := subjects.BucketSubject(subjects.BucketUsers, fmt.Sprintf("t.u%04d", i))
		names = append(names, subject)
		requests = append(requests, &nats.Msg{Subject: subject, Data: fmt.Appendf(nil, "%d", i)})
	}
	if err := jetstream.PublishAll(store, t.Context(), requests); err != nil {
		t.Fatal(err)
	}
	stream, pattern := subjects.BucketStream(subjects.BucketUsers), subjects.BucketSubject(subjects.BucketUsers, "t.*")
	got, err := jetstream.MultiLast(store, t.Context(), stream, append(names, pattern[:len(pattern)-1]+"nobody"))
	if err != nil || len(got) != n {
		t.Fatalf("%d of %d, %v", len(got), n, err)
	}
	for i, msg := range got {
		if msg.Subject != names[i] || string(msg.Data) != fmt.Sprint(i) {
			t.Fatalf("message %d is %s: %s", i, msg.Subject, msg.Data)
		}
	}
	if got, err := jetstream.MultiLast(store, t.Context(), stream, []string{pattern[:len(pattern)-1] + "nobody"}); err != nil || len(got) != 0 {
		t.Errorf("of nothing: %v, %v", got, err)
	}
	if _, err := jetstream.MultiLast(store, t.Context(), stream, []string{pattern}); !errors.Is(err, jetstream.ErrTooMany) {
		t.Errorf("a pattern of %d keys: %v", n, err)
	}
	if found, err := jetstream.Matching(store, t.Context(), subjects.BucketUsers, "t.*"); err != nil || len(found) != n {
		t.Errorf("matching: %d of %d, %v", len(found), n, err)
	}
	if keys, err := jetstream.Keys(store, t.Context(), stream, pattern); err != nil || len(keys) != n || keys[0] != names[0] || keys[n-1] != names[n-1] {
		t.Errorf("%d keys, %v", len(keys), err)
	}
}

func TestMultiLastGoesOnWhereTheServerStops(t *testing.T) {
	store := jetstreamtest.Start(t).Store(t)
	const n, size = 200, 60 << 10 // more than the server sends for one request
	requests := make([]*nats.Msg, n)
	for i := range n {
		requests[i] = &nats.Msg{Subject: subjects.BucketSubject(subjects.BucketUsers, fmt.Sprintf("t.u%04d", i)), Data: bytes.Repeat([]byte{'x'}, size)}
	}
	if err := jetstream.PublishAll(store, t.Context(), requests); err != nil {
		t.Fatal(err)
	}
	got, err := jetstream.Matching(store, t.Context(), subjects.BucketUsers, "t.*")
	if err != nil || len(got) != n {
		t.Fatalf("%d of %d, %v", len(got), n, err)
	}
	for i, msg := range got {
		if len(msg.Data) != size || !strings.HasSuffix(msg.Subject, fmt.Sprintf("%04d", i)) {
			t.Fatalf("message %d is %s with %d bytes", i, msg.Subject, len(msg.Data))
		}
	}
}

func TestWithoutAServerEverythingIsUnavailable(t *testing.T) {
	s := jetstreamtest.Start(t)
	store := s.Store(t)
	fill(t, store, 1, 10)
	s.Stop(t)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	stream := subjects.StreamOf(room)
	for name, call := range map[string]func() error{
		"publish": func() error {
			_, err := jetstream.Publish(store, ctx, subjects.Message("g.other"), nil, nil)
			return err
		},
		"leader": func() error {
			_, err := jetstream.LastFromLeader(store, ctx, stream, subjects.Message(room))
			return err
		},
		"direct":       func() error { _, err := jetstream.LastDirect(store, ctx, stream, subjects.Message(room)); return err },
		"by sequences": func() error { _, err := jetstream.BySequences(store, ctx, stream, []uint64{1}); return err },
		"multi last": func() error {
			_, err := jetstream.MultiLast(store, ctx, stream, []string{subjects.Message(room)})
			return err
		},
		"keys":  func() error { _, err := jetstream.Keys(store, ctx, stream, ">"); return err },
		"erase": func() error { return jetstream.Erase(store, ctx, stream, 1) },
	} {
		if err := call(); !errors.Is(err, jetstream.ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
	}
	s.Restart(t)
	msg, err := jetstream.LastFromLeader(store, t.Context(), stream, subjects.Message(room))
	if err != nil || msg.Sequence != 1 {
		t.Errorf("after the restart: %+v, %v", msg, err)
	}
	if got, err := jetstream.BySequences(store, t.Context(), stream, []uint64{1}); err != nil || got[0] == nil {
		t.Errorf("after the restart, by sequence: %v, %v", got, err)
	}
}

// Erased content must not be readable in the files of the store.
func TestEraseLeavesNothing(t *testing.T) {
	var dir string
	s := jetstreamtest.Start(t, jetstreamtest.Configure(func(o *server.Options) { dir = o.StoreDir }))
	store := s.Store(t)
	secret := []byte("canary-93f1c2")
	stored, err := jetstream.Publish(store, t.Context(), subjects.Message(room), nil, secret)
	if err != nil {
		t.Fatal(err)
	}
	kept := []byte("canary-5b07aa")
	if _, err := jetstream.Publish(store, t.Context(), subjects.Message(room), nil, kept); err != nil {
		t.Fatal(err)
	}
	if err := jetstream.Erase(store, t.Context(), subjects.StreamOf(room), stored.Sequence); err != nil {
		t.Fatal(err)
	}
	s.Stop(t)
	if path := grep(t, dir, secret); path != "" {
		t.Errorf("%s still holds the erased bytes", path)
	}
	if grep(t, dir, kept) == "" {
		t.Error("what was kept is not found either, so this proves nothing")
	}
	s.Restart(t)
	got, err := jetstream.BySequences(store, t.Context(), subjects.StreamOf(room), []uint64{stored.Sequence, stored.Sequence + 1})
	if err != nil || got[0] != nil || got[1] == nil {
		t.Errorf("after the restart: %v, %v", got, err)
	}
}
