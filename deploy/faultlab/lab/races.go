package lab

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/confab-im/confab/deploy/faultlab/history"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// races is a group whose guests are removed and added all the time, while they send, page, follow and listen with all their devices, and while a host says
// things that they may know of at some times only. A stranger tries everything and may know nothing.
const races subjects.Conversation = "g.races"

// Times of the races.
const (
	turn      = 50 * time.Millisecond // of being in, and of being out
	longTurn  = 3 * time.Second       // of being out, now and then: what has no place in the log must have ended by then
	longEvery = 8                     // turns
)

type race struct {
	lab      *Lab
	host     *person
	guests   [][]*person // the devices of each
	stranger *person
	raced    atomic.Int64 // removals that were acknowledged while a send of the removed user was under way
}

func prepareRaces(ctx context.Context, l *Lab) (work, error) {
	r := &race{lab: l}
	hosts, err := l.recruit(ctx, "host", 1, false)
	if err != nil {
		return nil, err
	}
	r.host = hosts[0]
	strangers, err := l.recruit(ctx, "stranger", 1, true)
	if err != nil {
		return nil, err
	}
	r.stranger = strangers[0]
	members := []subjects.User{r.host.user}
	for i := range 2 {
		guest, err := l.recruit(ctx, subjects.User(fmt.Sprintf("guest%d", i)), 2, true)
		if err != nil {
			return nil, err
		}
		r.guests, members = append(r.guests, guest), append(members, guest[0].user)
	}
	return r.run, l.found(ctx, races, members...)
}

func (r *race) run(asked, done context.Context) error {
	reading, stop := context.WithCancel(done)
	defer stop()
	ctx, enough := context.WithCancel(done) // once it is asked to end, and there was a race to lose
	defer enough()
	var talkers, readers together
	talkers.do(func() error {
		select {
		case <-asked.Done():
		case <-done.Done():
		}
		for r.raced.Load() == 0 && done.Err() == nil {
			sleep(done, turn)
		}
		enough()
		return nil
	})
	talkers.do(func() error { r.speak(ctx, done); return nil })
	talkers.do(func() error { r.intrude(ctx, done); return nil })
	var devices []*person
	for _, guest := range r.guests {
		talkers.do(func() error { r.toss(ctx, done, guest); return nil })
		talkers.do(func() error { r.page(ctx, guest[0]); return nil })
		for _, p := range guest {
			devices = append(devices, p)
			talkers.do(func() error { p.talkIn(ctx, done, races, 10*time.Millisecond); return nil })
			readers.do(func() error { return p.read(reading, races) })
		}
	}
	_ = talkers.wait() // they return none
	r.lab.settled(done, races, devices...)
	stop()
	return readers.wait()
}

// toss removes a guest and takes it in again.
func (r *race) toss(ctx, done context.Context, devices []*person) {
	l, guest := r.lab, devices[0].user
	for n := 1; ctx.Err() == nil; n++ {
		l.change(done, races, guest, wire.ChangeRemoved, l.owner.client.Remove)
		if slices.ContainsFunc(devices, func(p *person) bool { return p.trying.Load() }) {
			r.raced.Add(1)
		}
		if n%longEvery == 0 {
			sleep(ctx, longTurn)
		} else {
			sleep(ctx, turn)
		}
		l.change(done, races, guest, wire.ChangeAdded, l.owner.client.Add)
		sleep(ctx, turn)
	}
	// A removal that was given up may have been stored since: it ends within the time of a call, and being added twice does no harm.
	sleep(done, tryWithin)
	l.change(done, races, guest, wire.ChangeAdded, l.owner.client.Add)
}

// speak has the host say, signal and read things that guests may know of while they are members.
func (r *race) speak(ctx, done context.Context) {
	var all together
	all.do(func() error { r.host.talkIn(ctx, done, races, 10*time.Millisecond); return nil })
	all.do(func() error {
		for seq := wire.Seq(1); ctx.Err() == nil; seq++ {
			_ = r.host.client.Signal(wire.Signal{Conversation: races, Kind: "typing"}) // it may be lost
			// The answer is of no interest: the guests' connections hear of the mark.
			_, _ = asking[wire.MarkQuery, wire.Marked](ctx, r.host, "receipts.mark", wire.MarkQuery{Conversation: races, Read: seq})
			sleep(ctx, 20*time.Millisecond)
		}
		return nil
	})
	_ = all.wait() // they return none
}

// page asks for the newest entries and for the heads, all the time, and notes what it is told.
func (r *race) page(ctx context.Context, p *person) {
	for ctx.Err() == nil {
		p.pages(ctx, races)
		heads, err := asking[wire.HeadsQuery, wire.Heads](ctx, p, "history.heads", wire.HeadsQuery{})
		for _, h := range heads.Conversations {
			if err == nil && h.Conversation == races {
				p.record(history.Record{Kind: history.Heard, Conversation: races, Event: "history.heads", Seq: h.Head.Seq})
			}
		}
		sleep(ctx, turn/2)
	}
}

// pages notes the ends of the newest page: all between them was told as well, and a leak of a single entry in the middle would be a hole in a view.
func (p *person) pages(ctx context.Context, room subjects.Conversation) {
	page, err := asking[wire.PageQuery, wire.Page](ctx, p, "history.page", wire.PageQuery{Conversation: room, Limit: 50})
	if err != nil || len(page.Entries) == 0 {
		return
	}
	for _, seq := range []wire.Seq{page.First, page.Last} {
		p.record(history.Record{Kind: history.Heard, Conversation: room, Event: "history.page", Seq: seq})
	}
}

// intrude has the stranger try all that names the conversation, under hostile names as well.
func (r *race) intrude(ctx, done context.Context) {
	p := r.stranger
	for n := 1; n == 1 || ctx.Err() == nil; n++ {
		p.pages(ctx, races)
		for _, room := range []subjects.Conversation{races, "g.>", "g.*", "*.races"} {
			if _, err := asking[wire.PageQuery, wire.Page](ctx, p, "history.page", wire.PageQuery{Conversation: room}); err == nil {
				p.told(races, "history.page")
			}
			if _, err := asking[wire.MarkQuery, wire.Marked](ctx, p, "receipts.mark", wire.MarkQuery{Conversation: room, Read: 1}); err == nil {
				p.told(races, "receipts.mark")
			}
			if _, err := asking[wire.ReadersQuery, wire.Readers](ctx, p, "receipts.who", wire.ReadersQuery{Conversation: room, Seq: 1}); err == nil {
				p.told(races, "receipts.who")
			}
			if _, err := asking[wire.ConversationQuery, wire.ConversationInfo](ctx, p, "conversations.get", wire.ConversationQuery{Conversation: room}); err == nil {
				p.told(races, "conversations.get")
			}
			_ = p.client.Signal(wire.Signal{Conversation: room, Kind: "typing"}) // it may be lost
		}
		p.say(done, races, fmt.Sprintf("%s/%s/%d", p.user, p.device, n))
		sleep(ctx, 100*time.Millisecond)
	}
}

// told notes that a call told something of a conversation.
func (p *person) told(room subjects.Conversation, call string) {
	p.record(history.Record{Kind: history.Heard, Conversation: room, Event: call})
}

// hear notes what the connection is told of a conversation.
func (p *person) hear(event any) {
	r := history.Record{Kind: history.Heard}
	switch event := event.(type) {
	case *wire.Entry:
		r.Event, r.Conversation, r.Seq, r.Body = string(wire.EventEntry), event.Conversation, event.Seq, words(event.Body)
	case *wire.HeadMoved:
		r.Event, r.Conversation, r.Seq = string(wire.EventHead), event.Conversation, event.Seq
	case *wire.Receipt:
		r.Event, r.Conversation, r.From = string(wire.EventReceipt), event.Conversation, event.User
	case *wire.Signal:
		r.Event, r.Conversation, r.From = string(wire.EventSignal), event.Conversation, event.User
	default:
		return
	}
	p.record(r)
}

// talkIn says something in one conversation again and again, with a pause of about that time.
func (p *person) talkIn(ctx, done context.Context, room subjects.Conversation, pause time.Duration) {
	for n := 1; ctx.Err() == nil && done.Err() == nil; n++ {
		p.say(done, room, fmt.Sprintf("%s/%s/%d", p.user, p.device, n))
		sleep(ctx, time.Duration(p.random.Int64N(int64(2*pause))))
	}
}
