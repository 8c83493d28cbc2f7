package jetstream_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/jetstream/jetstreamtest"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// cluster runs three servers and returns a store on each, declared with three replicas.
func cluster(t testing.TB, options ...jetstreamtest.Option) []*jetstream.Store {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	var (
		routes  [3]*url.URL
		servers [3]*server.Server
		conns   [3]*nats.Conn
		stores  []*jetstream.Store
	)
	for i := range routes { // the servers must know one another before they start, so their ports are tried out first
		free, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		routes[i] = &url.URL{Scheme: "nats", Host: free.Addr().String()}
		if err := free.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for i := range servers {
		port, err := strconv.Atoi(routes[i].Port())
		if err != nil {
			t.Fatal(err)
		}
		o := &server.Options{
			ServerName: fmt.Sprint("n", i), Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoLog: true, NoSigs: true,
			Cluster: server.ClusterOpts{Name: "test", Host: "127.0.0.1", Port: port}, Routes: routes[:],
		}
		for _, option := range options {
			option(o)
		}
		if servers[i], err = server.NewServer(o); err != nil {
			t.Fatal(err)
		}
		servers[i].Start()
		t.Cleanup(func() { servers[i].Shutdown(); servers[i].WaitForShutdown() })
	}
	for i, s := range servers {
		if !s.ReadyForConnections(30 * time.Second) {
			t.Fatal("a server did not start")
		}
		nc, err := nats.Connect(s.ClientURL())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		conns[i] = nc
	}
	for { // until the servers have found one another and elected a leader
		err := jetstream.Declare(ctx, conns[0], jetstream.Profile{Replicas: 3})
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			t.Fatal(err)
		}
	}
	for _, nc := range conns {
		s, err := jetstream.Open(ctx, nc)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Close)
		stores = append(stores, s)
	}
	return stores
}

// TestThreeReplicasAgree does everything through any of three servers, of which two are often a moment behind. A page that must know of a
// seq does, and a repeat, which a cluster recognises before it compares the tail, answers with the first entry.
func TestThreeReplicasAgree(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	stores := cluster(t)
	either := func() *jetstream.Store { return stores[random.IntN(len(stores))] }
	w := newWriter(t, stores[0], talk)
	m := &model{conv: talk}
	var drafts []jetstream.Draft
	var firsts []wire.Entry
	for i := range 80 {
		d := m.next(random)
		d.ClientID = fmt.Sprint("c-", i)
		w.store = either()
		first := w.append(d).Entry
		m.add(t, first)
		drafts, firsts = append(drafts, d), append(firsts, first)
		n := max(0, i-random.IntN(15))
		w.store = either()
		w.repeated(fmt.Sprint("entry ", n+1), drafts[n], firsts[n])
		head := wire.Seq(len(m.entries))
		got := page(t, either(), wire.PageQuery{Conversation: talk, Limit: 100, AtLeast: head}, 0)
		same(t, got, m.want(t, 1, max(1, head+1-min(head, 100)), head))
	}
	m.add(t, w.append(message("ada", "the last one settles what is open")).Entry)
	m.checkErased(t, either())
	if changed, err := either().RebuildAmends(t.Context(), talk); err != nil || changed != 0 {
		t.Errorf("rebuilding changed %d records, %v", changed, err)
	}
	const posts = 25
	var racing sync.WaitGroup
	for k, s := range stores {
		racing.Go(func() {
			r := newWriter(t, s, talk)
			for i := range posts {
				d := message("bob", "racing")
				d.ClientID = fmt.Sprint("r", k, "-", i)
				if _, err := r.try(d); err != nil {
					t.Errorf("append beside others: %v", err)
				}
			}
		})
	}
	racing.Wait()
	if w.reload(); int(w.tail.Seq) != len(m.entries)+3*posts {
		t.Errorf("the tail is %d after %d entries and %d more", w.tail.Seq, len(m.entries), 3*posts)
	}
	if _, err := stores[1].Append(t.Context(), talk, jetstream.Tail{}, message("cyd", "x")); !errors.Is(err, jetstream.ErrTailMoved) {
		t.Errorf("appending to an old tail: %v", err)
	}
}

// TestConsumersOnThreeServers also rewinds: on a cluster a consumer that was deleted may be there for a moment longer.
func TestConsumersOnThreeServers(t *testing.T) {
	t.Parallel()
	stores := cluster(t)
	specs := []jetstream.ConsumerSpec{{Function: "counter", Entries: true}}
	for _, s := range stores[:2] { // the second finds them
		if err := jetstream.DeclareConsumers(t.Context(), s.Conn(), specs); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	speak(t, stores[0], "g.general")
	if err := jetstream.Rewind(t.Context(), stores[1].Conn(), "counter", began.Add(-time.Minute)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a backlog of one", func() bool {
		n, err := jetstream.Backlog(t.Context(), stores[2].Conn(), "counter")
		return err == nil && n == 1
	})
}

// TestWhoLosesARaceFindsWhatWon is about the moment between the refusal of a second record and the time from which the first can be read.
func TestWhoLosesARaceFindsWhatWon(t *testing.T) {
	t.Parallel()
	stores := cluster(t)
	for i := range 30 {
		user := subjects.User(fmt.Sprint("u", i))
		var racing sync.WaitGroup
		var made atomic.Int64
		for _, s := range stores {
			racing.Go(func() {
				_, err := s.CreateUser(t.Context(), jetstream.User{User: user})
				switch {
				case err == nil:
					made.Add(1)
				case !errors.Is(err, jetstream.ErrExists):
					t.Errorf("make %s: %v", user, err)
				}
				if _, err := s.User(t.Context(), user); err != nil {
					t.Errorf("read %s after it was made by somebody: %v", user, err)
				}
			})
		}
		racing.Wait()
		if made.Load() != 1 {
			t.Errorf("%s was made %d times", user, made.Load())
		}
	}
}
