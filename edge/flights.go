package edge

import (
	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/subjects"
)

// callState is where a call is that was sent without a worker.
type callState uint8

const (
	onGround callState = iota // it was not, or nobody has noted yet that it was
	inAir
	landed
)

// fly notes a call that was sent, unless it has landed already. It reports false where the socket has ended meanwhile: then it must be abandoned.
func (c *calls) fly(next *call) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if next.state == onGround {
		next.state, next.place = inAir, len(c.air)
		c.air = append(c.air, next)
	}
	return !c.over
}

// land ends what fly began.
func (c *calls) land(next *call) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if next.state == inAir {
		last := len(c.air) - 1
		c.air[next.place], c.air[last].place = c.air[last], next.place
		c.air[last] = nil
		c.air = c.air[:last]
	}
	next.state = landed
}

// start begins with a call whose turn it is: what is sent at once and only waits then needs no worker for that.
func (s *socket) start(c *call) {
	s.wg.Add(1)
	if !s.launch(c) {
		s.edge.take(job{s, c})
	}
}

// launch sends a post. It reports false, and has sent nothing, where a worker must do it.
func (s *socket) launch(c *call) bool {
	e := s.edge
	if !c.posts() || s.calls.ended() {
		return false
	}
	f, m, err := subjects.ParseCall(c.name)
	if err != nil {
		return false
	}
	if method, known := e.caller.Method(f, m); !known || !method.Public {
		return false
	}
	header := headerOf(s.caller(c), functions.NewTrace())
	s.posts(c)
	if !e.caller.Launch(&c.flight, e.deadline(f, m, c.begun), f, m, header, orEmpty(c.data), func() { s.landed(c) }) {
		s.posted(c)
		return false
	}
	if !s.calls.fly(c) {
		c.flight.Abandon()
	}
	return true
}

// landed goes on with a call that was launched. It does not wait.
func (s *socket) landed(c *call) {
	s.calls.land(c)
	data, settled, err := c.flight.Answer()
	if !settled {
		s.edge.take(job{s, c})
		return
	}
	s.conclude(c, data, err)
	if next := s.calls.next(c.lane); next != nil {
		s.start(next)
	}
	s.wg.Done()
}
