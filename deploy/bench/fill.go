package bench

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/deploy/bench/floor"
	"github.com/confab-im/confab/deploy/natsconfig"
	"github.com/confab-im/confab/deploy/standalone"
	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

const (
	seedAtOnce = 2000 // conversations of one call
	fillWithin = 15 * time.Minute
)

// writers are people who are connected, each with direct conversations with the same others, who are not.
type writers struct {
	mail    *mail // for the run and the text of messages alone
	people  []person
	others  []subjects.User
	ids     []subjects.Conversation // of writer i: those at i, i + number of writers, …
	sockets []*socket
	sent    atomic.Uint32
}

// fill makes n writers, and stores so many conversations of one message as if the others had written to them and they had read it. The child must be running.
func (w *writers) fill(ctx context.Context, s *system, n, conversations int) error {
	ctx, cancel := context.WithTimeout(ctx, fillWithin)
	defer cancel()
	var err error
	if w.people, err = s.gather(ctx, n); err != nil {
		return err
	}
	config, ok := standalone.Local(s.data, natsconfig.Admin)
	if !ok {
		return errors.New("the child says not where its NATS server listens")
	}
	nc, _, err := config.Connect("confab-bench-fill", quiet)
	if err != nil {
		return err
	}
	defer nc.Close()
	into, err := jetstream.Open(ctx, nc)
	if err != nil {
		return err
	}
	defer into.Close()
	for i := range conversations / n {
		other := subjects.User(fmt.Sprintf("r%s-%06d", s.run.mark, i))
		if _, err := into.CreateUser(ctx, jetstream.User{User: other, Created: wire.At(time.Now())}); err != nil {
			return err
		}
		w.others = append(w.others, other)
	}
	return w.seed(ctx, s.run, into, conversations)
}

// seed stores the conversations.
func (w *writers) seed(ctx context.Context, r *run, into *jetstream.Store, conversations int) error {
	body := fmt.Appendf(nil, `{"text":%q}`, w.mail.text)
	for at := 0; at < conversations; at += seedAtOnce {
		var seeds []jetstream.Seed
		for i := at; i < min(at+seedAtOnce, conversations); i++ {
			writer, other := w.people[i%len(w.people)].user, w.others[i/len(w.people)]
			c, err := subjects.Direct(writer, other)
			if err != nil {
				return err
			}
			w.ids = append(w.ids, c)
			first := jetstream.Draft{Kind: wire.KindMessage, From: other, ClientID: string(appendClientID(nil, time.Now(), w.mail.run+1, uint32(i), 0)), Body: body}
			seeds = append(seeds, jetstream.Seed{Conversation: c, Messages: []jetstream.Draft{first}, Readers: []subjects.User{writer}})
		}
		r.say("%s of %s conversations stored", number(float64(at)), number(float64(conversations)))
		if err := into.Seed(ctx, seeds); err != nil {
			return err
		}
	}
	return nil
}

// connect connects the writers.
func (w *writers) connect(ctx context.Context, s *system) error {
	w.sockets = make([]*socket, len(w.people))
	return parallel(ctx, len(w.people), func(i int) error {
		s.run.step("connecting")
		return patiently(ctx, func() (err error) {
			w.sockets[i], err = s.connect(ctx, w.people[i], "bench-1")
			return err
		})
	})
}

func (w *writers) close() {
	closeAll(w.sockets)
	w.sockets = nil
}

// post is the operation of a load: a lane is a writer, who posts in a random conversation.
func (w *writers) post(lane int, due time.Time, done func(error)) {
	count := w.sent.Add(1)
	each := uint64(len(w.ids) / len(w.people))
	// A multiplication that meets all residues in no order: a lane's generator would need a lock.
	c := w.ids[lane+len(w.people)*int(uint64(count)*0x9e3779b97f4a7c15>>20%each)]
	data := append(append([]byte(`{"conversation":"`), c...), `","client_id":"`...)
	data = appendClientID(data, due, w.mail.run, uint32(lane), count)
	data = append(append(append(data, `","body":{"text":"`...), w.mail.text...), `"}}`...)
	w.deliver(w.sockets[lane], due, data, done)
}

// deliver makes the call of a message, and again while its outcome is unknown.
func (w *writers) deliver(from *socket, due time.Time, data []byte, done func(error)) {
	err := from.call("send.post", data, func(_ []byte, err error) {
		if unknown(err) && time.Since(due) < repeatWithin {
			time.AfterFunc(repeatAfter, func() { w.deliver(from, due, data, done) })
			return
		}
		done(err)
	})
	if err != nil {
		done(err)
	}
}

// bareStore is a floor of bare streams with a record under many subjects.
type bareStore struct {
	dir      string
	process  *process
	nc       *nats.Conn
	ask      *requester
	subjects []string
	data     []byte
	sent     atomic.Uint64
	starts   time.Duration // with everything stored
}

// bareStore fills a floor with a record for each conversation, whose subject is as long, and ends it.
func (r *run) bareStore(ctx context.Context, ids []subjects.Conversation) (*bareStore, error) {
	b := &bareStore{dir: r.directory("floor")}
	for _, c := range ids {
		b.subjects = append(b.subjects, floor.Subject(c.Partition(), strings.ReplaceAll(string(c), ".", "-")))
	}
	err := b.start(ctx, r, SyncDefault)
	if err == nil {
		err = b.fill(ctx, r)
	}
	return b, errors.Join(err, b.stop())
}

// open starts it with everything stored.
func (b *bareStore) open(ctx context.Context, r *run) error {
	begun := time.Now()
	err := b.start(ctx, r, r.config.Sync)
	b.starts = time.Since(begun)
	return err
}

func (b *bareStore) start(ctx context.Context, r *run, sync string) (err error) {
	var url string
	if b.process, url, err = r.floor(ctx, "streams", "--data", b.dir, "--sync", sync); err != nil {
		return err
	}
	if b.nc, err = nats.Connect(url, nats.MaxReconnects(0), nats.Timeout(answerWithin)); err != nil {
		return err
	}
	p, err := newPublisher(b.nc, 0, r.config.Bytes)
	if err != nil {
		return err
	}
	b.ask, b.data = p.ask, p.data
	return nil
}

func (b *bareStore) stop() error {
	if b.nc != nil {
		b.nc.Close()
	}
	if b.process == nil {
		return nil
	}
	p := b.process
	b.process = nil
	return p.stop()
}

// fill stores one record under each subject, so many on their way at once.
func (b *bareStore) fill(ctx context.Context, r *run) error {
	turns := make(chan struct{}, seedAtOnce)
	var failure atomic.Pointer[error]
	var all sync.WaitGroup
	for i, subject := range b.subjects {
		if i%seedAtOnce == 0 {
			r.say("%s of %s bare records stored", number(float64(i)), number(float64(len(b.subjects))))
		}
		select {
		case turns <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		all.Add(1)
		err := b.ask.ask(subject, b.data, func(m *nats.Msg) bool {
			if err := stored(m); err != nil {
				failure.Store(&err)
			}
			<-turns
			all.Done()
			return false
		})
		if err != nil {
			return err
		}
	}
	all.Wait()
	if err := failure.Load(); err != nil {
		return *err
	}
	return nil
}

// publish is the operation of a load: a record under a random subject.
func (b *bareStore) publish(_ int, _ time.Time, done func(error)) {
	subject := b.subjects[b.sent.Add(1)*0x9e3779b97f4a7c15>>20%uint64(len(b.subjects))]
	if err := b.ask.ask(subject, b.data, func(m *nats.Msg) bool { done(stored(m)); return false }); err != nil {
		done(err)
	}
}
