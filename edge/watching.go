package edge

import (
	"context"
	"time"

	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// recordsWithin bounds the reading of presence records.
const recordsWithin = 3 * time.Second

// watch answers presence.watch: what others see of the users now; what changes comes as events.
func (p *presence) watch(ctx context.Context, s *socket, data []byte) ([]byte, error) {
	var in wire.UsersQuery
	if err := wire.Decode(data, &in); err != nil {
		return nil, err
	}
	unread, begun, err := p.addWatcher(s, in.Users)
	if err == nil && len(unread) > 0 {
		err = p.read(ctx, unread)
	}
	if err != nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.dropWatcher(s, begun)
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	answer := wire.Presences{Users: make(map[subjects.User]wire.Presence, len(in.Users))}
	for _, u := range in.Users {
		if f := p.followed[u]; f != nil {
			p.show(f) // so that those who watched before know what this one is told
			f.shown = p.state(f)
			answer.Users[u] = f.shown
		}
	}
	return wire.Marshal(answer)
}

// addWatcher notes that a socket watches users. It returns those whose records must be read, and those that the socket did not watch before.
func (p *presence) addWatcher(s *socket, list []subjects.User) (unread, begun []subjects.User, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, u := range list {
		if _, watches := s.watching[u]; watches {
			if !p.followed[u].read {
				unread = append(unread, u)
			}
			continue
		}
		if len(s.watching) >= p.edge.cfg.Limits.Watched {
			return unread, begun, wire.Errorf(wire.BadData, "A connection may watch at most %d users.", p.edge.cfg.Limits.Watched)
		}
		f, err := p.follow(u)
		if err != nil {
			return unread, begun, err
		}
		f.watchers[s] = struct{}{}
		if s.watching == nil {
			s.watching = map[subjects.User]struct{}{}
		}
		s.watching[u] = struct{}{}
		begun = append(begun, u)
		if !f.read {
			unread = append(unread, u)
		}
	}
	return unread, begun, nil
}

// dropWatcher notes that a socket no longer watches users.
func (p *presence) dropWatcher(s *socket, list []subjects.User) {
	for _, u := range list {
		delete(s.watching, u)
		if f := p.followed[u]; f != nil {
			delete(f.watchers, s)
			p.unfollow(f)
		}
	}
}

// unwatch answers presence.unwatch.
func (p *presence) unwatch(s *socket, data []byte) ([]byte, error) {
	var in wire.UsersQuery
	if err := wire.Decode(data, &in); err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dropWatcher(s, in.Users)
	return nil, nil
}

// forget ends all watching of a socket that ends.
func (p *presence) forget(s *socket) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for u := range s.watching {
		p.dropWatcher(s, []subjects.User{u})
	}
}

// read reads the records of users, after the server has the subscriptions to their changes.
func (p *presence) read(ctx context.Context, list []subjects.User) error {
	ctx, cancel := context.WithTimeout(ctx, recordsWithin)
	defer cancel()
	if err := p.edge.cfg.NATS.FlushWithContext(ctx); err != nil {
		return errNoNATS
	}
	answer, err := p.ask(ctx, list)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.merge(answer, false)
	return nil
}

func (p *presence) ask(ctx context.Context, list []subjects.User) (wire.PresenceRecords, error) {
	return functions.Invoke[wire.UsersQuery, wire.PresenceRecords](ctx, p.edge.caller, nil, funcPresence, "records", wire.UsersQuery{Users: list})
}

// rereadSoon reads the records of all watched users again in a moment: republished ones may have been lost.
func (p *presence) rereadSoon() {
	if !p.rereading.CompareAndSwap(false, true) {
		return
	}
	p.edge.start(func(ctx context.Context) {
		ok := sleep(ctx, doubtPause)
		p.rereading.Store(false) // what is lost from here on asks for another reading
		if ok {
			p.reread(ctx)
		}
	})
}

// reread reads the records of all watched users again.
func (p *presence) reread(ctx context.Context) {
	p.mu.Lock()
	var watched []subjects.User
	for u, f := range p.followed {
		if len(f.watchers) > 0 {
			watched = append(watched, u)
		}
	}
	p.mu.Unlock()
	for len(watched) > 0 {
		batch := watched[:min(len(watched), wire.MaxWatched)]
		watched = watched[len(batch):]
		within, cancel := context.WithTimeout(ctx, recordsWithin)
		answer, err := p.ask(within, batch)
		cancel()
		if err != nil {
			p.edge.log.Warn("presence not read again", "code", string(wire.CodeOf(err)))
			return
		}
		p.mu.Lock()
		p.merge(answer, true)
		for _, u := range batch {
			if f := p.followed[u]; f != nil {
				p.show(f)
			}
		}
		p.mu.Unlock()
	}
}
