package lab

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/confab-im/confab/deploy/faultlab/history"
	"github.com/confab-im/confab/edge/client"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// Times of a person.
const (
	tryWithin = 5 * time.Second        // of one try of a send
	tryPause  = 200 * time.Millisecond // before the next, at least
	thinks    = 20 * time.Millisecond  // between two messages, on average
)

// passing is the definite refusals after which the same send may be accepted.
var passing = map[wire.Code]bool{wire.RateLimited: true, wire.Unauthenticated: true, wire.TokenExpired: true}

// person is one signed-in device: it says something, repeats what it is unsure of under the same client id, and reads along.
type person struct {
	lab    *Lab
	user   subjects.User
	device subjects.Device
	client *client.Client
	random *rand.Rand
	count  int
	trying atomic.Bool // a send is under way
	hears  bool        // what its connection is told is noted, beside what it shows

	connects atomic.Int64 // how often it was connected

	mu      sync.Mutex
	seen    map[subjects.Conversation]wire.Seq // the newest entry shown
	session string                             // of the newest connection
}

func (p *person) record(r history.Record) {
	r.User, r.Device = p.user, p.device
	p.lab.history.Add(r)
}

// talk sends messages until ctx ends; what is under way then is finished, until done ends.
func (p *person) talk(ctx, done context.Context, conversations []subjects.Conversation) {
	for ctx.Err() == nil && done.Err() == nil {
		p.count++
		p.say(done, conversations[p.random.IntN(len(conversations))], fmt.Sprintf("%s/%s/%d", p.user, p.device, p.count))
		sleep(ctx, time.Duration(p.random.Int64N(int64(2*thinks))))
	}
}

// say tries one message until its outcome is known, or done ends.
func (p *person) say(done context.Context, c subjects.Conversation, words string) {
	p.post(done, newPost(c, words))
}

// newPost returns a message that says where it is said: read elsewhere, it gives itself away.
func newPost(c subjects.Conversation, words string) wire.Post {
	return wire.Post{Conversation: c, ClientID: client.NewClientID(), Body: textBody(string(c) + " " + words)}
}

// post tries one message as say does, and returns its entry; 0 = none.
func (p *person) post(done context.Context, post wire.Post) wire.Seq {
	c, lost := post.Conversation, false
	p.trying.Store(true)
	defer p.trying.Store(false)
	for done.Err() == nil {
		p.record(history.Record{Kind: history.Invoke, Conversation: c, ClientID: post.ClientID, Body: words(post.Body)})
		ctx, cancel := context.WithTimeout(done, tryWithin)
		posted, err := client.Call[wire.Post, wire.Posted](ctx, p.client, "send.post", post)
		cancel()
		outcome := history.Record{Kind: history.OK, Conversation: c, ClientID: post.ClientID, Seq: posted.Seq, Duplicate: posted.Duplicate}
		refusal, refused := errors.AsType[*wire.Error](err)
		switch {
		case err == nil:
			if posted.Duplicate && lost {
				p.lab.duplicates.Add(1)
			}
			p.record(outcome)
			return posted.Seq
		case refused && !refusal.Code.Info().Unknown:
			outcome.Kind, outcome.Code = history.Reject, refusal.Code
		default:
			outcome.Kind, lost = history.Unknown, true
			if refused {
				outcome.Code = refusal.Code
			}
		}
		p.record(outcome)
		if outcome.Kind == history.Reject && !passing[outcome.Code] {
			return 0
		}
		sleep(done, tryPause+time.Duration(rand.Int64N(int64(tryPause))))
	}
	return 0
}

// read shows a conversation from its beginning until ctx ends. Where its user is removed it waits until the user is back, and goes on.
func (p *person) read(ctx context.Context, c subjects.Conversation) error {
	for ctx.Err() == nil {
		err := p.show(ctx, c)
		if err != nil && wire.CodeOf(err) != wire.NotFound {
			return fmt.Errorf("%s reads %s: %w", p.user, c, err)
		}
		sleep(ctx, 20*time.Millisecond)
	}
	return nil
}

// show shows a conversation from where it was left, until ctx ends or the user is no member.
func (p *person) show(ctx context.Context, c subjects.Conversation) error {
	view, err := p.client.Follow(c, p.shown(c))
	if err != nil {
		return err
	}
	defer view.Close()
	for {
		entry, err := view.Next(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		r := entryRecord(entry)
		r.Kind, r.Conversation, r.Change = history.Receive, c, ""
		p.record(r)
		p.mu.Lock()
		p.seen[c] = entry.Seq
		p.mu.Unlock()
	}
}

// shown returns the newest entry that was shown.
func (p *person) shown(c subjects.Conversation) wire.Seq {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.seen[c]
}

// observe records when the connection comes and goes, and what is shown of others' presence.
func (p *person) observe(event client.Event) {
	if p.hears {
		p.hear(event)
	}
	switch event := event.(type) {
	case *client.Connected:
		p.connects.Add(1)
		p.mu.Lock()
		p.session = event.Welcome.Session
		p.mu.Unlock()
		p.record(history.Record{Kind: history.Connect, Session: event.Welcome.Session})
	case *client.Disconnected:
		closed := history.Record{Kind: history.Close}
		if why, ok := errors.AsType[*client.CloseError](event.Err); ok {
			closed.Closed = why.Code
		}
		p.record(closed)
	case *wire.PresenceChange:
		p.record(history.Record{Kind: history.Presence, From: event.User, State: event.State})
	}
}

// entryRecord returns an entry as it stands in a history; kind and conversation are the caller's.
func entryRecord(e wire.Entry) history.Record {
	r := history.Record{Seq: e.Seq, From: e.From, Entry: e.Kind, ClientID: e.ClientID, Target: e.Target}
	switch e.Kind {
	case wire.KindMessage:
		r.Body = words(e.Body)
	case wire.KindMember:
		var m wire.MemberBody
		if wire.Decode(e.Body, &m) == nil {
			r.User, r.Change = m.User, m.Change
		}
	}
	return r
}

const bodyPrefix, bodyPad, bodySuffix = `{"text":"`, `","pad":"`, `"}`

// paddedBody returns the body of a message that is longer than its words.
func paddedBody(words, pad string) []byte {
	return []byte(bodyPrefix + words + bodyPad + pad + bodySuffix)
}

// textBody returns the body of a message whose words need no escapes, and words what stands in it, or all of it where it is none.
func textBody(words string) []byte { return []byte(bodyPrefix + words + bodySuffix) }

func words(body []byte) string {
	text, ok := strings.CutPrefix(string(body), bodyPrefix)
	text, whole := strings.CutSuffix(text, bodySuffix)
	if before, pad, padded := strings.Cut(text, bodyPad); padded && strings.Trim(pad, "x") == "" {
		text = before
	}
	if !ok || !whole {
		return string(body)
	}
	return text
}
