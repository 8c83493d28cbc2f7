package process

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/nats-io/nats.go"
)

// leaving is the times of a program whose NATS server may have lost the others of its cluster.
type leaving struct {
	look  time.Duration // between two looks
	first time.Duration // of being cut off, until another server is tried: at least this, at most twice
	most  time.Duration // until the next one is, which doubles: no server may be better
}

var unhurried = leaving{time.Second, 5 * time.Second, time.Minute}

// LeaveMinority has a connection go to another server of its cluster, until ctx ends, when cutOff has said for some seconds that nothing can be stored. A server that cannot reach the others
// keeps its clients and answers them, and yet nothing can be written through it: only the program can find out whether another server would do. Where none does, as when all disks
// are full, it tries less and less often.
func LeaveMinority(ctx context.Context, nc *nats.Conn, cutOff func() bool, log *slog.Logger) {
	unhurried.run(ctx, nc, cutOff, log)
}

func (l leaving) run(ctx context.Context, nc *nats.Conn, cutOff func() bool, log *slog.Logger) {
	ticker := time.NewTicker(l.look)
	defer ticker.Stop()
	p := patience{leaving: l}
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			if !nc.IsConnected() || !p.over(now, nc.ConnectedClusterName() != "" && cutOff()) {
				continue
			}
			log.Warn("leaving a nats server through which nothing can be stored", "server", nc.ConnectedServerName())
			if err := nc.ForceReconnect(); err != nil {
				log.Warn("nats server not left", KeyErr, err)
			}
		}
	}
}

// patience is how long a program stays cut off before it tries another server.
type patience struct {
	leaving
	since time.Time     // cut off, or the last try
	wait  time.Duration // from then on; 0 = it is not cut off
}

// over reports whether it is time to try another server.
func (p *patience) over(now time.Time, cutOff bool) bool {
	switch {
	case !cutOff:
		p.wait = 0
		return false
	case p.wait == 0:
		p.since, p.wait = now, between(p.first, 2*p.first)
		return false
	case now.Sub(p.since) < p.wait:
		return false
	}
	p.since, p.wait = now, min(2*p.wait, between(p.most/2, p.most))
	return true
}

// between returns a time by chance, so that not all programs do at once what all of them do.
func between(least, most time.Duration) time.Duration { return least + rand.N(most-least) }
