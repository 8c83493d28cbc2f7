package edge

import (
	"cmp"
	"context"
	"encoding/json"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// presenceSweep is how often states that change by time alone are looked at: the end of a grace, the end of a lease.
const presenceSweep = 500 * time.Millisecond

// presence follows who is online: it keeps the records of the users that sockets here watch, and of those with sockets here it notices when a
// device went to another edge. What it knows comes from the presence bucket: device records, settings and the leases of edges.
//
// Its mutex is taken before those of sockets and under none of the others.
type presence struct {
	edge *Edge

	rereading atomic.Bool // a reading of everything is about to begin

	mu       sync.Mutex
	own      subjects.Edge // this edge, whose lease never ends in its own eyes
	followed map[subjects.User]*followed
	leases   map[subjects.Edge]lease
	echoed   time.Time // when this edge's own lease came back from the store last
	stored   uint64    // the message of the store that it was then
	doubt    time.Time // until when a lease that was not renewed proves nothing: nobody's was
	unsaid   unheard
}

// lease is what is known of another edge. It counts by the clock of this one, so that clocks need not agree.
type lease struct {
	until time.Time // monotonic
	at    wire.Time // its last renewal, by its own clock
}

// followed is a user whose records are followed. It is guarded by presence.mu.
type followed struct {
	user     subjects.User
	setting  *nats.Subscription
	watchers map[*socket]struct{}
	read     bool // the records were read since the subscriptions stand
	records  wire.UserRecords
	graces   map[subjects.Device]time.Time // until when a device that has left counts
	doubts   map[subjects.Device]time.Time // until when a connected device whose record the store has forgotten counts
	shown    wire.Presence                 // what the watchers know
}

// follow returns a user's entry, which is made where there is none.
func (p *presence) follow(u subjects.User) (*followed, error) {
	if f := p.followed[u]; f != nil {
		return f, nil
	}
	sub, err := p.edge.cfg.NATS.ChanSubscribe(subjects.PresenceSettingOf(u), p.edge.feeds.presence.messages)
	if err != nil {
		return nil, errNoNATS
	}
	f := &followed{
		user: u, setting: sub, watchers: map[*socket]struct{}{}, graces: map[subjects.Device]time.Time{},
		records: wire.UserRecords{Devices: map[subjects.Device]wire.DeviceRecord{}},
	}
	p.followed[u] = f
	return f, nil
}

// unfollow forgets a user whom nobody watches any more.
func (p *presence) unfollow(f *followed) {
	if len(f.watchers) == 0 {
		_ = f.setting.Unsubscribe() // fails only on a closed connection
		delete(p.followed, f.user)
	}
}

// handle applies one republished key of the presence bucket.
func (p *presence) handle(msg *nats.Msg) {
	e, u, d, err := subjects.ParsePresenceKey(subjects.PresenceKey(msg.Subject))
	if err != nil {
		p.edge.log.Warn("presence key cannot be read", "err", err)
		return
	}
	switch {
	case e != "":
		if e == p.own && p.forgotten(msg) {
			p.edge.log.Warn("the store has forgotten who is connected; it is told again")
			p.edge.start(func(context.Context) { p.renew() })
		}
		err = p.onLease(e, msg.Data)
	case d != "":
		err = p.onDevice(u, d, msg.Data)
	default:
		err = p.onSetting(u, msg.Data)
	}
	if err != nil {
		p.edge.log.Warn("presence record cannot be read", "err", err)
	}
}

// forgotten reports whether the store has begun anew since this edge's lease came back the last time: its messages are numbered from 1 again. It is in memory
// where there are three servers, and these may have restarted one after the other in less time than they need to tell one another.
func (p *presence) forgotten(lease *nats.Msg) bool {
	message, err := strconv.ParseUint(lease.Header.Get(nats.JSSequence), 10, 64)
	if err != nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	before := p.stored
	p.stored = message
	return message < before
}

// echoWithin is how long an edge's own lease may be on its way back from the store before nothing is concluded from leases that do not come either.
const echoWithin = beatEvery * 3 / 2

// unsure reports whether leases that are not renewed, or have run out, say nothing about their edges: without a connection, or while the store passes nobody's lease on, and until all have had
// the time to renew theirs. It is called with the mutex.
func (p *presence) unsure(now time.Time) bool {
	return !p.edge.cfg.NATS.IsConnected() || now.Sub(p.echoed) > echoWithin || p.doubt.After(now)
}

// alive reports whether an edge holds its lease. It is called with the mutex.
func (p *presence) alive(e subjects.Edge, now time.Time) bool {
	return e == p.own || p.leases[e].until.After(now)
}

func (p *presence) onLease(e subjects.Edge, data []byte) error {
	var l wire.Lease
	if len(data) > 0 {
		if err := json.Unmarshal(data, &l); err != nil {
			return err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	before, known := p.leases[e]
	now := time.Now()
	if len(data) == 0 { // it ran out, or its edge gave it up
		switch {
		case !known || e == p.own:
		case p.unsure(now): // the store comes back and ends them all
			p.leases[e] = lease{until: now.Add(echoWithin), at: before.at}
		default:
			p.leases[e] = lease{at: before.at}
			p.touchEdge(e)
		}
		return nil
	}
	if e == p.own {
		if now.Sub(p.echoed) > echoWithin {
			p.doubt = now.Add(echoWithin)
		}
		p.echoed = now
	}
	p.leases[e] = lease{until: now.Add(wire.LeaseTTL), at: l.At}
	if !known || !before.until.After(now) {
		p.touchEdge(e)
	}
	return nil
}

// touchEdge computes anew the users who have devices on an edge whose lease came or went.
func (p *presence) touchEdge(e subjects.Edge) {
	for _, f := range p.followed {
		for _, r := range f.records.Devices {
			if r.Edge == e {
				p.show(f)
				break
			}
		}
	}
}

func (p *presence) onDevice(u subjects.User, d subjects.Device, data []byte) error {
	local := p.edge.users.find(u)
	p.mu.Lock()
	watched := p.followed[u] != nil
	_, open := p.unsaid[unsaid{u, d}]
	p.mu.Unlock()
	if !watched && !open && local == nil {
		return nil // most of those who come and go elsewhere
	}
	var r wire.DeviceRecord
	if len(data) > 0 {
		if err := wire.Unmarshal(data, &r); err != nil {
			return err
		}
		if local != nil && r.Edge != p.edge.cfg.Name {
			p.contest(local, d, r)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.said(u, d, r)
	f := p.followed[u]
	switch {
	case f == nil:
		return nil
	case len(data) == 0:
		delete(f.records.Devices, d)
		delete(f.graces, d)
		delete(f.doubts, d)
	default:
		f.put(d, r, wire.PresenceGrace)
	}
	p.show(f)
	return nil
}

// put notes a device's record; one that has left counts for the rest of its grace.
func (f *followed) put(d subjects.Device, r wire.DeviceRecord, grace time.Duration) {
	f.records.Devices[d] = r
	delete(f.graces, d)
	delete(f.doubts, d)
	if r.LeftAt != nil && grace > 0 {
		f.graces[d] = time.Now().Add(grace)
	}
}

func (p *presence) onSetting(u subjects.User, data []byte) error {
	var setting wire.PresenceSetting
	if len(data) > 0 {
		if err := json.Unmarshal(data, &setting); err != nil {
			return err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if f := p.followed[u]; f != nil {
		f.records.Setting = setting
		p.show(f)
	}
	return nil
}

// show tells the watchers of a user what has changed.
func (p *presence) show(f *followed) {
	if len(f.watchers) == 0 || !f.read {
		return
	}
	now := p.state(f)
	told := f.shown
	f.shown = now
	if told.State == "" || now.State == told.State && now.Status == told.Status {
		return // the first state is the answer to watch
	}
	body, err := wire.Marshal(wire.PresenceChange{User: f.user, State: now.State, Status: now.Status, LastSeen: now.LastSeen})
	if err != nil {
		return // a struct of package wire always encodes
	}
	frame := eventFrame(wire.EventPresence, body)
	for s := range f.watchers {
		s.push(frame)
	}
}

// state computes what others see of a user now: what wire.UserRecords says, by this machine's clock alone. So a user who is invisible cannot be
// told from one who left.
func (p *presence) state(f *followed) wire.Presence {
	now := time.Now()
	var seen wire.Time
	connected, online := 0, false
	for d, r := range f.records.Devices {
		l := p.leases[r.Edge]
		switch {
		case r.LeftAt == nil && p.alive(r.Edge, now):
			connected, online = connected+1, true
		case r.LeftAt == nil:
			seen = later(seen, later(r.At, l.at))
		default:
			online = online || f.graces[d].After(now)
			seen = later(seen, *r.LeftAt)
		}
	}
	setting := f.records.Setting
	if setting.State == wire.StateInvisible {
		return wire.Presence{State: wire.StateOffline, LastSeen: setting.Seen}
	}
	shown := wire.Presence{State: wire.StateOffline, Devices: connected}
	switch {
	case online:
		shown.State, shown.Status = cmp.Or(setting.State, wire.StateOnline), setting.Status
	case !seen.IsZero():
		shown.LastSeen = &seen
	}
	return shown
}

func later(a, b wire.Time) wire.Time {
	if b.After(a.Time) {
		return b
	}
	return a
}

// sweep looks at the states that change by time alone. While no lease is renewed that could be heard of, none ends.
func (p *presence) sweep(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.unsure(now) {
		for e, l := range p.leases {
			if !l.until.IsZero() {
				p.leases[e] = lease{until: now.Add(wire.LeaseTTL), at: l.at}
			}
		}
		return
	}
	for e, l := range p.leases {
		if !l.until.IsZero() && !l.until.After(now) {
			p.leases[e] = lease{at: l.at}
			p.touchEdge(e)
		}
	}
	for _, f := range p.followed {
		due := false
		for d, until := range f.graces {
			if !until.After(now) {
				delete(f.graces, d)
				due = true
			}
		}
		for d, until := range f.doubts {
			if !until.After(now) {
				delete(f.doubts, d)
				delete(f.records.Devices, d)
				due = true
			}
		}
		if due {
			p.show(f)
		}
	}
}

// merge adds what was read to what came live meanwhile: of each device the newer record counts. A whole reading also shows what the store has forgotten.
func (p *presence) merge(answer wire.PresenceRecords, whole bool) {
	now, clock := time.Now(), p.edge.cfg.Now()
	for e, l := range answer.Leases {
		left := wire.LeaseTTL - clock.Sub(l.At.Time)
		if known := p.leases[e]; left > 0 && known.until.Before(now.Add(left)) && !l.At.Before(known.at.Time) {
			p.leases[e] = lease{until: now.Add(min(left, wire.LeaseTTL)), at: l.At}
		} else if known.at.Before(l.At.Time) {
			p.leases[e] = lease{until: known.until, at: l.At}
		}
	}
	for u, records := range answer.Users {
		f := p.followed[u]
		if f == nil {
			continue
		}
		f.records.Setting = records.Setting
		if whole {
			f.miss(records.Devices, now.Add(wire.LeaseTTL))
		}
		for d, r := range records.Devices {
			if known, ok := f.records.Devices[d]; ok && !stamp(r).After(stamp(known)) {
				delete(f.doubts, d)
				continue
			}
			var grace time.Duration
			if r.LeftAt != nil {
				grace = wire.PresenceGrace - clock.Sub(r.LeftAt.Time)
			}
			f.put(d, r, grace)
		}
		p.addOurs(f)
		f.read = true
	}
}

// miss notes until when connected devices count that are not among those found. No record is ever erased, so the store has forgotten them: their edges are
// there, as far as is known, and will say so again.
func (f *followed) miss(found map[subjects.Device]wire.DeviceRecord, until time.Time) {
	for d, r := range f.records.Devices {
		_, there := found[d]
		if _, noted := f.doubts[d]; there || noted || r.LeftAt != nil {
			continue
		}
		if f.doubts == nil {
			f.doubts = map[subjects.Device]time.Time{}
		}
		f.doubts[d] = until
	}
}

// addOurs adds the devices of a user that are connected here, whatever the store knows of them.
func (p *presence) addOurs(f *followed) {
	u := p.edge.users.find(f.user)
	if u == nil {
		return
	}
	for _, s := range u.list() {
		sess := s.session.Load()
		r := wire.DeviceRecord{Edge: p.own, At: wire.At(sess.at)}
		if known, ok := f.records.Devices[sess.device]; !ok || !stamp(known).After(stamp(r)) {
			f.put(sess.device, r, 0)
		}
	}
}

// stamp returns when a record was written.
func stamp(r wire.DeviceRecord) time.Time {
	if r.LeftAt != nil {
		return r.LeftAt.Time
	}
	return r.At.Time
}

// keep sweeps until ctx ends.
func (p *presence) keep(ctx context.Context) {
	ticker := time.NewTicker(presenceSweep)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			p.sweep(now)
		}
	}
}
