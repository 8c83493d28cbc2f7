package bench

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/confab-im/confab/subjects/wire"
)

// Pauses before another try, as the protocol asks of clients.
const (
	leastPause = 500 * time.Millisecond
	mostPause  = 20 * time.Second
)

// returner is somebody who comes back when a connection ends, in the way of the clients that belong to confab: an edge that drains says when, and what a connection begins with is asked for on it until it is answered.
type returner struct {
	s      *system
	person person
	tries  *atomic.Int64

	socket *socket                   // nil = not connected
	told   atomic.Pointer[time.Time] // when to come back; nil = nobody said
}

// arrive connects and asks for the heads.
func (c *returner) arrive(ctx context.Context) error {
	socket, err := c.s.connectAs(ctx, c.person, stormDevice, c.heard)
	if err != nil {
		return err
	}
	for try := 0; ; try++ {
		err := socket.ask(ctx, "history.heads", wire.HeadsQuery{}, nil)
		if err == nil {
			c.socket = socket
			return nil
		}
		select {
		case <-socket.ended:
			return err
		case <-ctx.Done():
			socket.close()
			return err
		case <-time.After(pauseBefore(try, err)):
		}
	}
}

// heard takes note of when an edge that drains wants to see its clients again.
func (c *returner) heard(event wire.Event, data []byte) {
	var d wire.Draining
	if event != wire.EventDraining || json.Unmarshal(data, &d) != nil {
		return
	}
	at := time.Now().Add(time.Duration(d.ReconnectAfterMS)*time.Millisecond + rand.N(leastPause)) // others were told the same
	c.told.Store(&at)
}

// comeBack waits until the connection ends and connects again until that succeeds, or ctx ends: then it returns false.
func (c *returner) comeBack(ctx context.Context) bool {
	select {
	case <-c.socket.ended:
	case <-ctx.Done():
		c.leave()
		return false
	}
	c.socket = nil
	var err error
	for try := 0; ; try++ {
		before := pauseBefore(try, err)
		if told := c.told.Swap(nil); told != nil {
			before = time.Until(*told)
			try = -1 // what was told is no failure
		}
		if wait(ctx, before); ctx.Err() != nil {
			return false
		}
		c.tries.Add(1)
		if err = c.arrive(ctx); err == nil {
			return true
		}
	}
}

// leave ends the connection, if there is one.
func (c *returner) leave() {
	if c.socket != nil {
		c.socket.close()
		c.socket = nil
	}
}

// pauseBefore returns how long to wait before the next try: at random between half a second and a ceiling that doubles with each try, and not less than an answer asked for.
func pauseBefore(try int, err error) time.Duration {
	ceiling := min(mostPause, leastPause<<(min(try, 8)+2))
	chosen := leastPause + rand.N(ceiling-leastPause)
	if refusal, ok := errors.AsType[*wire.Error](err); ok {
		chosen = max(chosen, time.Duration(refusal.RetryAfterMS)*time.Millisecond)
	}
	return chosen
}
