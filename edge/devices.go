package edge

import (
	"context"
	"maps"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// beatEvery is how often an edge renews its lease: so often that one that was cut off for half the life of a lease still holds it.
const beatEvery = wire.LeaseTTL / 4

// arrive writes that a device has connected.
func (p *presence) arrive(sess *session) {
	p.remember(sess, nil)
	p.write(sess, nil)
}

// leave writes that a device has disconnected, unless a newer connection of it has taken its place here or elsewhere.
func (p *presence) leave(sess *session, left bool) {
	if !left || sess.elsewhere.Load() {
		p.withdraw(sess)
		return
	}
	at := wire.At(p.edge.cfg.Now())
	p.remember(sess, &at)
	p.write(sess, &at)
}

// unheard is the records of devices that have come or gone here, until they come back from the store: it may be without a leader when they are written.
type unheard map[unsaid]wire.DeviceRecord

type unsaid struct {
	user   subjects.User
	device subjects.Device
}

// unsaidMost bounds the records that are remembered at once: beside so many others, while the store cannot be reached, a device may be shown as what it was before until it comes back or goes.
const unsaidMost = 1 << 16

// remember notes a record, which may be lost on its way: nothing else would ever say it while the edge lives.
func (p *presence) remember(sess *session, left *wire.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	who := unsaid{sess.user.name, sess.device}
	delete(p.unsaid, who)
	if len(p.unsaid) < unsaidMost {
		p.unsaid[who] = wire.DeviceRecord{Edge: p.own, At: wire.At(sess.at), LeftAt: left}
	}
}

// withdraw takes the arrival of a session back that another connection of the device has followed.
func (p *presence) withdraw(sess *session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	who := unsaid{sess.user.name, sess.device}
	if r, ok := p.unsaid[who]; ok && r.LeftAt == nil && r.At == wire.At(sess.at) {
		delete(p.unsaid, who)
	}
}

// said forgets a record that others know of, or that a newer one has made meaningless. It is called with the mutex.
func (p *presence) said(u subjects.User, d subjects.Device, r wire.DeviceRecord) {
	who := unsaid{u, d}
	if one, ok := p.unsaid[who]; ok && (r.Edge == p.own && (r.LeftAt == nil) == (one.LeftAt == nil) || r.At.After(one.At.Time)) {
		delete(p.unsaid, who)
	}
}

// sayAgain publishes the records that may have been lost.
func (p *presence) sayAgain() {
	p.mu.Lock()
	again := maps.Clone(p.unsaid)
	p.mu.Unlock()
	for who, record := range again {
		p.put(who.user, who.device, record)
	}
}

// write publishes the record of a session's device. Nobody waits for its storage: what does not come back is written again.
func (p *presence) write(sess *session, left *wire.Time) {
	p.put(sess.user.name, sess.device, wire.DeviceRecord{Edge: p.edge.cfg.Name, At: wire.At(sess.at), LeftAt: left})
}

func (p *presence) put(u subjects.User, d subjects.Device, record wire.DeviceRecord) {
	body, err := wire.Marshal(record)
	if err != nil {
		return // a struct of package wire always encodes
	}
	key := subjects.DeviceKey(u, d)
	if err := p.edge.cfg.NATS.Publish(subjects.BucketSubject(subjects.BucketPresence, key), body); err != nil {
		p.edge.log.Debug("device record not written", "user", string(u), "err", err)
	}
}

// contest settles whose device it is when another edge wrote its record: the newer connection wins, and its loser must not show as a departure.
func (p *presence) contest(u *user, d subjects.Device, r wire.DeviceRecord) {
	u.mu.Lock()
	s := u.onLocked(d)
	u.mu.Unlock()
	if s == nil {
		return
	}
	sess := s.session.Load()
	switch {
	case r.LeftAt == nil && r.At.After(sess.at):
		sess.elsewhere.Store(true)
		s.close(wire.CloseReplaced)
	case r.LeftAt == nil && !sess.at.After(r.At.Time) && r.Edge > p.edge.cfg.Name:
		s.close(wire.CloseReplaced) // both at once: one of them gives way
	default:
		p.write(sess, nil)
	}
}

// beat renews the edge's lease until ctx ends, and says again what may have been lost.
func (p *presence) beat(ctx context.Context) {
	ticker := time.NewTicker(beatEvery)
	defer ticker.Stop()
	for {
		p.renewLease()
		p.sayAgain()
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func (p *presence) renewLease() {
	name := p.edge.cfg.Name
	body, err := wire.Marshal(wire.Lease{Edge: name, At: wire.At(p.edge.cfg.Now())})
	if err != nil {
		return // a struct of package wire always encodes
	}
	msg := &nats.Msg{
		Subject: subjects.BucketSubject(subjects.BucketPresence, subjects.LeaseKey(name)),
		Header:  nats.Header{nats.MsgTTLHdr: {wire.LeaseTTL.String()}},
		Data:    body,
	}
	if err := p.edge.cfg.NATS.PublishMsg(msg); err != nil {
		p.edge.log.Debug("lease not renewed", "err", err)
	}
}

// renew writes everything again after records may have been lost (the bucket is in memory), and reads those of others once they have
// had the time to do the same.
func (p *presence) renew() {
	p.renewLease()
	p.sayAgain()
	for _, u := range p.edge.users.all() {
		for _, s := range u.list() {
			p.write(s.session.Load(), nil)
		}
	}
	p.edge.start(func(ctx context.Context) {
		if sleep(ctx, beatEvery) {
			p.reread(ctx)
		}
	})
}
