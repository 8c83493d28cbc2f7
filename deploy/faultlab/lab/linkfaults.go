package lab

import (
	"context"
	"strings"
	"time"

	"github.com/confab-im/confab/deploy/faultlab/history"
)

// The kinds of networks, by who is on their one side; NATS is on the other, for clients an edge, and for a route both.
const (
	linkClients  = "clients"
	linkEdge     = "edge"
	linkFunction = "function"
	linkRoute    = "route" // between two servers
)

// linksOf returns the networks of a kind.
func (s *system) linksOf(kind string) []*proxy {
	var found []*proxy
	for _, p := range append(append([]*proxy(nil), s.fronts...), s.links...) {
		if p.kind == kind {
			found = append(found, p)
		}
	}
	return found
}

// linkFaults is what can happen to a network: between clients and an edge, where the name says nothing, between NATS and an edge or a function, or between two servers.
func linkFaults() []fault {
	var list []fault
	for _, kind := range []string{linkClients, linkEdge, linkFunction, linkRoute} {
		exposes := map[string]history.Exposure{linkClients: history.Reconnects, linkEdge: history.Repeats}[kind]
		for _, f := range []struct {
			name    string
			exposes history.Exposure
			inject  func(ctx context.Context, l *Lab, p *proxy)
		}{
			{"cut", exposes, func(ctx context.Context, l *Lab, p *proxy) {
				// Answers go first, so that some that were on their way are lost for certain.
				p.setTrouble(trouble{stall: [2]bool{down: true}})
				sleep(ctx, l.within(20*time.Millisecond, 200*time.Millisecond))
				p.during(ctx, trouble{cut: true}, l.within(100*time.Millisecond, 3*time.Second))
			}},
			{"stall", exposes, func(ctx context.Context, l *Lab, p *proxy) {
				p.during(ctx, trouble{stall: [2]bool{true, true}}, l.within(500*time.Millisecond, 8*time.Second))
			}},
			{"hole", exposes, func(ctx context.Context, l *Lab, p *proxy) {
				p.setTrouble(trouble{stall: [2]bool{true, true}})
				sleep(ctx, l.within(500*time.Millisecond, 8*time.Second))
				p.forget()
				p.setTrouble(trouble{})
			}},
			{"one way", exposes, func(ctx context.Context, l *Lab, p *proxy) {
				var t trouble
				t.stall[l.random.IntN(2)] = true
				p.during(ctx, t, l.within(500*time.Millisecond, 8*time.Second))
			}},
			{"delay", "", func(ctx context.Context, l *Lab, p *proxy) {
				by := l.within(20*time.Millisecond, 500*time.Millisecond)
				p.during(ctx, trouble{delay: func() time.Duration { return by }}, l.within(time.Second, 5*time.Second))
			}},
			{"trickle", "", func(ctx context.Context, l *Lab, p *proxy) {
				p.during(ctx, trouble{slow: true}, l.within(time.Second, 5*time.Second))
			}},
			{"reset", exposes, func(ctx context.Context, l *Lab, p *proxy) {
				p.during(ctx, trouble{reset: true}, l.within(100*time.Millisecond, time.Second))
			}},
		} {
			name := f.name
			if kind != linkClients {
				name = strings.Join([]string{f.name, kind}, " ")
			}
			list = append(list, fault{
				name: name, exposes: f.exposes,
				on: func(s *system) bool { return len(s.linksOf(kind)) > 0 },
				inject: func(ctx context.Context, l *Lab) error {
					among := l.system.linksOf(kind)
					f.inject(ctx, l, among[l.random.IntN(len(among))])
					return nil
				},
			})
		}
	}
	return list
}
