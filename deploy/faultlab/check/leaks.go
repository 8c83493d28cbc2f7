package check

import (
	"strings"

	"github.com/confab-im/confab/deploy/faultlab/history"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// heard finds what connections were told of conversations at a time when their users had no right to it. What has a place in the log is held
// against the log; what has none, such as a signal, against the clock: it may come a little later than a removal, as it may have been sent before.
func (j *judge) heard() {
	for _, r := range j.records {
		if r.Kind != history.Heard && r.Kind != history.Receive {
			continue
		}
		who := client{r.User, r.Device}.String()
		if said := canary(r.Body); said != "" && said != r.Conversation {
			j.findf(Leak, r.Conversation, r.Seq, r.At, who, "the words were said in %s", said)
		}
		c := j.conversations[r.Conversation]
		switch {
		case r.Kind == history.Receive: // views look at these
		case c == nil || c.log == nil: // what the truth is was not to be found out
		case r.Seq > 0 && !c.member(r.User, r.Seq):
			j.findf(Leak, r.Conversation, r.Seq, r.At, who, "%s told of it, and %s was no member then", r.Event, r.User)
		case r.Seq == 0 && j.outside(c, r):
			j.findf(Leak, r.Conversation, 0, r.At, who, "%s told something, and %s was no member for longer than that takes", r.Event, r.User)
		}
	}
}

// outside reports whether a user had been no member for so long that nothing of before could still be on its way.
func (j *judge) outside(c *conversation, r history.Record) bool {
	if _, peer := c.id.Peer(r.User); peer {
		return false
	}
	if len(c.stays[r.User]) == 0 {
		return true
	}
	for _, out := range c.outs[r.User] {
		if from := j.calmSince(out.from, r.At-out.from); from < forever-j.bounds.Settles && r.At >= from+j.bounds.Settles && r.At < out.to {
			return true
		}
	}
	return false
}

// canary returns the conversation in which words say that they are said, if they do.
func canary(words string) subjects.Conversation {
	first, _, _ := strings.Cut(words, " ")
	c, _ := subjects.ParseConversation(first)
	return c
}

// Membership is how hard a run tried to find a leak or a send that is accepted from who was removed.
type Membership struct {
	Changes int `json:"changes"` // acknowledged
	Raced   int `json:"raced"`   // removals during whose acknowledgement a send of the removed user was under way
	Refused int `json:"refused"` // sends of users who were no members
	Heard   int `json:"heard"`   // what connections were told and no view showed
}

func (j *judge) memberships() (m Membership) {
	type key struct {
		user subjects.User
		in   subjects.Conversation
	}
	tries := map[key][]attempt{}
	for _, a := range j.attempts {
		k := key{a.user, a.conversation}
		tries[k] = append(tries[k], a)
		if a.outcome == history.Reject && a.code == wire.NotFound {
			m.Refused++
		}
	}
	next := map[key]int{}
	for _, r := range j.records {
		switch r.Kind {
		case history.Heard:
			m.Heard++
		case history.Member:
			m.Changes++
			k := key{r.User, r.Conversation}
			if !ends(r.Change) {
				continue
			}
			list, i := tries[k], next[k]
			for i < len(list) && list[i].to < r.At {
				i++
			}
			if next[k] = i; i < len(list) && list[i].from < r.At {
				m.Raced++
			}
		}
	}
	return m
}
