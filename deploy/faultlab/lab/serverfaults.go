package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/deploy/faultlab/history"
	"github.com/confab-im/confab/deploy/natsconfig"
	"github.com/confab-im/confab/subjects"
)

// askWithin bounds one question to the servers.
const askWithin = 5 * time.Second

// serverFaults is what can happen to the servers of a cluster, and to a single message that one of them passes on.
func serverFaults() []fault {
	return []fault{
		{name: "swallow", on: func(s *system) bool { return len(s.linksOf(linkEdge)) > 0 }, inject: swallow},
		{name: "kill leader", exposes: history.Repeats, on: clustered, inject: func(ctx context.Context, l *Lab) error {
			p, err := l.leader(ctx)
			if err != nil {
				return err
			}
			if err := p.kill(ctx); err != nil {
				return err
			}
			return p.await(ctx)
		}},
		{name: "lose server", exposes: history.Repeats, on: clustered, inject: func(ctx context.Context, l *Lab) error {
			p, err := l.leader(ctx)
			if err != nil {
				return err
			}
			if err := p.down(ctx); err != nil {
				return err
			}
			sleep(ctx, l.within(10*time.Second, 20*time.Second))
			return p.start(ctx)
		}},
		{name: "step down", on: clustered, inject: stepDown},
		{name: "partition", exposes: history.Repeats, on: clustered, inject: func(ctx context.Context, l *Lab) error {
			p, err := l.leader(ctx)
			if err != nil {
				return err
			}
			return l.apart(ctx, l.system.routesOf(p.name))
		}},
		{name: "partition all", exposes: history.Repeats, on: clustered, inject: func(ctx context.Context, l *Lab) error {
			return l.apart(ctx, l.system.linksOf(linkRoute))
		}},
	}
}

// apart takes networks between servers away for longer than it takes the servers to notice. By chance connections end, or nothing passes any more. It is whole again when
// every conversation has a leader: servers that could not see each other elect one for up to nine seconds.
func (l *Lab) apart(ctx context.Context, routes []*proxy) error {
	without := []trouble{{cut: true}, {stall: [2]bool{true, true}}}[l.random.IntN(2)]
	for _, p := range routes {
		p.setTrouble(without)
	}
	sleep(ctx, l.within(5*time.Second, 25*time.Second))
	for _, p := range routes {
		p.setTrouble(trouble{})
	}
	for _, c := range slices.Concat(l.rooms, l.halls) {
		if _, err := l.leaderOf(ctx, subjects.StreamOf(c)); err != nil {
			return err
		}
	}
	return nil
}

// routesOf returns the networks between a server and the others.
func (s *system) routesOf(server string) []*proxy {
	return slices.DeleteFunc(s.linksOf(linkRoute), func(p *proxy) bool { return !slices.Contains(strings.Fields(p.name), server) })
}

// clustered reports whether there is more than one server.
func clustered(s *system) bool { return len(s.of(kindServer)) > 1 }

// leader returns the server that leads the partition of a conversation that people talk in. While none does there is no answer, and it asks again.
func (l *Lab) leader(ctx context.Context) (*part, error) {
	name, err := l.leaderOf(ctx, subjects.StreamOf(l.rooms[l.random.IntN(len(l.rooms))]))
	if err != nil {
		return nil, err
	}
	for _, p := range l.system.of(kindServer) {
		if p.name == name {
			return p, nil
		}
	}
	return nil, fmt.Errorf("the leader %q is none of the servers of this run", name)
}

// leaderOf returns the name of the server that leads a stream.
func (l *Lab) leaderOf(ctx context.Context, stream string) (string, error) {
	nc, err := l.system.connect(natsconfig.Admin)
	if err != nil {
		return "", err
	}
	defer nc.Close()
	within, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	for {
		var info struct {
			Cluster struct {
				Leader string `json:"leader"`
			} `json:"cluster"`
		}
		err := ask(within, nc, subjects.StreamInfo(stream), &info)
		if err == nil && info.Cluster.Leader != "" {
			return info.Cluster.Leader, nil
		}
		if within.Err() != nil {
			return "", fmt.Errorf("%s has no leader: %w", stream, errors.Join(err, within.Err()))
		}
		sleep(within, 100*time.Millisecond)
	}
}

// ask sends a request to JetStream and decodes the answer.
func ask(ctx context.Context, nc *nats.Conn, subject string, answer any) error {
	within, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	msg, err := nc.RequestWithContext(within, subject, nil)
	if err != nil {
		return err
	}
	var refusal struct {
		Error *struct {
			Description string `json:"description"`
		} `json:"error"`
	}
	if err := json.Unmarshal(msg.Data, &refusal); err != nil {
		return err
	}
	if refusal.Error != nil {
		return errors.New(refusal.Error.Description)
	}
	return json.Unmarshal(msg.Data, answer)
}

// stepDown makes the leader of a partition hand over.
func stepDown(ctx context.Context, l *Lab) error {
	nc, err := l.system.connect(natsconfig.Admin)
	if err != nil {
		return err
	}
	defer nc.Close()
	stream := subjects.StreamOf(l.rooms[l.random.IntN(len(l.rooms))])
	if _, err := l.leaderOf(ctx, stream); err != nil {
		return err
	}
	var done struct {
		Success bool `json:"success"`
	}
	if err := ask(ctx, nc, subjects.StepDown(stream), &done); err != nil {
		return fmt.Errorf("step down in %s: %w", stream, err)
	}
	_, err = l.leaderOf(ctx, stream)
	return err
}

// swallow says something in a conversation in which nobody else talks, and has its live copy lost on the way to an edge: nothing that follows tells
// that edge's clients that they miss something.
func swallow(ctx context.Context, l *Lab) error {
	lost := l.swallows.next(subjects.Live(silence))
	defer l.swallows.never()
	within, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	l.silent++
	speaker := &person{lab: l, user: l.owner.user, device: l.owner.device, client: l.owner.client, random: rand.New(rand.NewPCG(l.config.Seed, l.silent))}
	speaker.say(within, silence, fmt.Sprintf("%s/%s/silence-%d", speaker.user, speaker.device, l.silent))
	select {
	case <-lost:
		return nil
	case <-within.Done():
		return fmt.Errorf("no live copy passed to swallow: %w", within.Err())
	}
}
