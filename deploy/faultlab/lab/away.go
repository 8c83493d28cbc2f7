package lab

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/confab-im/confab/deploy/faultlab/history"
	"github.com/confab-im/confab/edge/client"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// diary is a group that one user leaves alone while others write a lot in it.
const diary subjects.Conversation = "g.diary"

// Bounds of the diary.
const (
	missedDefault = 10_000
	writerDevices = 4
	writersEach   = 8                // messages under way on each device
	shortToken    = 10 * time.Second // the life of a token, so that it is over when the user returns
)

// accounts is how accounts are kept: everybody may register, and passwords, which nobody attacks here, are hashed at little cost.
func (s *system) accounts() []string {
	list := []string{"--registration", "open", "--password-memory-kib", "1024", "--password-passes", "1"}
	if slices.Contains(s.lab.config.Beside, "diary") {
		list = append(list, "--token-ttl", shortToken.String())
	}
	return list
}

func prepareDiary(ctx context.Context, l *Lab) (work, error) {
	writers, err := l.recruit(ctx, "wes", writerDevices, false)
	if err != nil {
		return nil, err
	}
	if _, err := client.Register(ctx, l.url(0), wire.Register{User: "ann", Password: password}); err != nil {
		return nil, err
	}
	ann := l.newPerson("ann", "d0", 0)
	if ann.client, err = client.Dial(ctx, l.url(1), client.WithPassword(ann.user, password), client.WithDevice(ann.device), client.WithOnEvent(ann.observe)); err != nil {
		return nil, err
	}
	run := func(ctx, done context.Context) error {
		for n := 0; n == 0 || ctx.Err() == nil; n++ {
			if err := l.stayAway(done, ann, writers, n); err != nil {
				return err
			}
		}
		return ann.client.Close()
	}
	if _, err := l.owner.client.Watch(ctx, ann.user); err != nil {
		return nil, err
	}
	return run, l.found(ctx, diary, ann.user, writers[0].user)
}

// stayAway has a user read to the end, leave, miss a lot, and return with a token that is over.
func (l *Lab) stayAway(done context.Context, p *person, writers []*person, n int) error {
	tokens := p.client.Tokens()
	if err := p.client.Close(); err != nil {
		return err
	}
	p.record(history.Record{Kind: history.Close})
	var writing together
	each := max(1, l.config.Missed/(writerDevices*writersEach))
	for i := range writerDevices * writersEach {
		on := writers[i%len(writers)]
		writer := l.newPerson(on.user, subjects.Device(fmt.Sprintf("%s-%d", on.device, i)), i)
		writer.client = on.client
		writing.do(func() error {
			for m := range each {
				writer.say(done, diary, fmt.Sprintf("%s/%d/%d", writer.device, n, m))
			}
			return nil
		})
	}
	_ = writing.wait() // they return none
	sleep(done, time.Until(tokens.ExpiresAt.Time)+time.Second)
	head, err := l.head(done, diary)
	if err != nil {
		return nil // there is no time left
	}
	reading, stop := context.WithCancel(done)
	defer stop()
	p.record(history.Record{Kind: history.Return, Conversation: diary, Seq: head})
	back, err := client.Dial(done, l.url(n), client.WithTokens(tokens), client.WithPassword(p.user, password), client.WithDevice(p.device), client.WithOnEvent(p.observe))
	if err != nil {
		return fmt.Errorf("return: %w", err)
	}
	p.client = back
	var reader together
	reader.do(func() error { return p.read(reading, diary) })
	l.settled(done, diary, p)
	stop()
	return reader.wait()
}
