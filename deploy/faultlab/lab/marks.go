package lab

import (
	"context"
	"fmt"
	"time"

	"github.com/confab-im/confab/deploy/faultlab/history"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// marked is a group in which one user's devices move the same read mark, each at its own place and often back, while others and the user itself post.
const marked subjects.Conversation = "g.marked"

func prepareMarks(ctx context.Context, l *Lab) (work, error) {
	speakers, err := l.recruit(ctx, "mike", 1, false)
	if err != nil {
		return nil, err
	}
	devices, err := l.recruit(ctx, "mia", 2, false)
	if err != nil {
		return nil, err
	}
	run := func(ctx, done context.Context) error {
		var all together
		all.do(func() error { speakers[0].talkIn(ctx, done, marked, 50*time.Millisecond); return nil })
		for _, p := range devices {
			all.do(func() error { p.mark(ctx, done); return nil })
			all.do(func() error { p.talkIn(ctx, done, marked, time.Second); return nil })
		}
		_ = all.wait() // they return none
		for _, p := range devices {
			p.countUnread(done, marked)
		}
		return nil
	}
	return run, l.found(ctx, marked, speakers[0].user, devices[0].user)
}

// mark asks for the read mark to be moved, to where it was, back, forward and beyond the end, and notes where it is said to be. What has no answer is
// asked again.
func (p *person) mark(ctx, done context.Context) {
	chance := p.lab.newPerson(p.user, p.device, int(p.device[len(p.device)-1])).random // its own, as others talk with the person's
	at := wire.Seq(1)
	for once := true; once || ctx.Err() == nil; once = false {
		read := [...]wire.Seq{at, 1 + wire.Seq(chance.Uint64N(uint64(at))), at + 1, 1 << 40}[chance.IntN(4)]
		for done.Err() == nil {
			p.record(history.Record{Kind: history.Asked, Conversation: marked})
			answer, err := asking[wire.MarkQuery, wire.Marked](done, p, "receipts.mark", wire.MarkQuery{Conversation: marked, Read: read})
			if err == nil {
				p.record(history.Record{Kind: history.Mark, Conversation: marked, Seq: answer.Read.Seq})
				at = max(at, answer.Read.Seq)
				break
			}
			sleep(done, tryPause)
		}
		sleep(ctx, 20*time.Millisecond)
	}
}

// countUnread notes what is said to be unread, when nobody says anything any more. One of several servers may be a moment behind, which shows in the head.
func (p *person) countUnread(done context.Context, room subjects.Conversation) {
	last, err := p.lab.head(done, room)
	if err != nil {
		return
	}
	for done.Err() == nil {
		heads, err := asking[wire.HeadsQuery, wire.Heads](done, p, "history.heads", wire.HeadsQuery{})
		for _, h := range heads.Conversations {
			if err == nil && h.Conversation == room && h.Head.Seq >= last {
				p.record(history.Record{Kind: history.Unread, Conversation: room, Seq: h.Read.Seq, Count: h.Unread})
				return
			}
		}
		sleep(done, tryPause)
	}
}

// copied is a group in which several devices of one user send the same message at once.
const copied subjects.Conversation = "g.copied"

// copiesMost is the most devices that send one message.
const copiesMost = 5

func prepareCopies(ctx context.Context, l *Lab) (work, error) {
	devices, err := l.recruit(ctx, "cora", copiesMost, false)
	if err != nil {
		return nil, err
	}
	run := func(ctx, done context.Context) error {
		reading, stop := context.WithCancel(done)
		defer stop()
		var readers together
		readers.do(func() error { return devices[0].read(reading, copied) })
		for n := 0; n == 0 || ctx.Err() == nil; n++ {
			l.copy(done, devices[:2+n%(copiesMost-1)], n)
		}
		l.settled(done, copied, devices[0])
		stop()
		return readers.wait()
	}
	return run, l.found(ctx, copied, devices[0].user)
}

// copy sends one message from several devices at once. Every third is recalled, and sent once more: it stays recalled.
func (l *Lab) copy(done context.Context, devices []*person, n int) {
	post := newPost(copied, fmt.Sprintf("copies/%d", n))
	var all together
	seqs := make([]wire.Seq, len(devices))
	for i, p := range devices {
		all.do(func() error { seqs[i] = p.post(done, post); return nil })
	}
	_ = all.wait() // they return none
	if n%3 != 0 || seqs[0] == 0 {
		return
	}
	recall := wire.Recall{Conversation: copied, Seq: seqs[0], ClientID: newPost(copied, "").ClientID}
	for done.Err() == nil {
		if _, err := asking[wire.Recall, wire.Posted](done, devices[0], "send.recall", recall); err == nil {
			break
		}
		sleep(done, tryPause)
	}
	devices[1].post(done, post)
}
