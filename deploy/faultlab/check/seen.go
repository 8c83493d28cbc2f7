package check

import (
	"time"

	"github.com/confab-im/confab/deploy/faultlab/history"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// views goes through what each client showed of a conversation.
func (j *judge) views(id subjects.Conversation, c *conversation) {
	for _, who := range c.clients() {
		last := wire.Seq(0) // 0 = nothing shown since the begin of the list
		for _, r := range c.views[who] {
			if r.Kind == history.Restart {
				last = 0
				continue
			}
			switch {
			case last == 0:
			case r.Seq <= last:
				j.findf(ViewRepeat, id, r.Seq, r.At, who.String(), "shown after entry %d", last)
			case r.Seq > max(last+1, c.begin(who.user, r.Seq)):
				j.findf(ViewHole, id, r.Seq, r.At, who.String(), "shown right after entry %d", last)
			}
			last = max(last, r.Seq)
			j.shown(id, c, who, r)
		}
		if end := c.lastFor(who.user); last > 0 && last < end {
			j.findf(ViewBehind, id, last, 0, who.String(), "entry %d is the last shown, and entry %d the last there", last, end)
		}
	}
}

// shown compares one entry that a client showed with the truth, and with the times of its user's membership.
func (j *judge) shown(id subjects.Conversation, c *conversation, who client, r history.Record) {
	truth, there := c.log[r.Seq]
	switch {
	case !there || r.From != truth.From || r.Entry != truth.Entry || r.Body != truth.Body && !c.recalledSay(truth, r.Body):
		j.findf(ViewAltered, id, r.Seq, r.At, who.String(), "shown as %q by %s, and at the end it is %q by %s", r.Body, r.From, truth.Body, truth.From)
	case !c.member(who.user, r.Seq):
		j.findf(Leak, id, r.Seq, r.At, who.String(), "%s was no member then", who.user)
	}
}

// recalledSay reports whether a recalled entry may be shown with such a body: with its own until the recall, and with none after it.
func (c *conversation) recalledSay(truth history.Record, body string) bool {
	if !c.recalled[truth.Seq] {
		return false
	}
	s := c.sends[sendID{truth.From, truth.ClientID}]
	return body == "" || s != nil && s.body == body
}

// membership finds messages of users who were no members. The log alone decides: what stands after a removal was taken after it.
func (j *judge) membership(id subjects.Conversation, c *conversation) {
	for seq := wire.Seq(1); seq <= c.head; seq++ {
		r := c.log[seq]
		if r.Entry != wire.KindMessage || c.member(r.From, seq) {
			continue
		}
		began := time.Duration(0)
		if s := c.sends[sendID{r.From, r.ClientID}]; s != nil {
			began = s.began
		}
		j.findf(AcceptedRemoved, id, seq, began, string(r.From), "%s was no member when this was stored", r.From)
	}
}

// stay is a membership in entries: from the one that begins it to the one that ends it, both included; to 0 = it goes on.
type stay struct{ from, to wire.Seq }

// findStays goes through the log once and returns the memberships of everybody.
func (c *conversation) findStays() map[subjects.User][]stay {
	all := map[subjects.User][]stay{}
	for _, u := range c.founders {
		all[u] = []stay{{from: 1}}
	}
	for seq := wire.Seq(1); seq <= c.head; seq++ {
		r := c.log[seq]
		if r.Entry != wire.KindMember {
			continue
		}
		list := all[r.User]
		in := len(list) > 0 && list[len(list)-1].to == 0
		switch r.Change {
		case wire.ChangeJoined, wire.ChangeAdded:
			if !in {
				all[r.User] = append(list, stay{from: seq})
			}
		case wire.ChangeLeft, wire.ChangeRemoved, wire.ChangeBanned:
			if in {
				list[len(list)-1].to = seq
			}
		}
	}
	return all
}

// member reports whether a user was a member at an entry; the two of a direct conversation always are.
func (c *conversation) member(u subjects.User, seq wire.Seq) bool {
	if _, peer := c.id.Peer(u); peer {
		return true
	}
	for _, s := range c.stays[u] {
		if seq >= s.from && (s.to == 0 || seq <= s.to) {
			return true
		}
	}
	return false
}

// begin returns the first entry of the membership that covers an entry. What a user missed of an earlier one is not shown any more, since
// who is taken in again sees what comes from then on.
func (c *conversation) begin(u subjects.User, seq wire.Seq) wire.Seq {
	for _, s := range c.stays[u] {
		if seq >= s.from && (s.to == 0 || seq <= s.to) {
			return s.from
		}
	}
	return 1
}

// lastFor returns the last entry that a user may see; 0 = none.
func (c *conversation) lastFor(u subjects.User) wire.Seq {
	if _, peer := c.id.Peer(u); peer {
		return c.head
	}
	list := c.stays[u]
	switch {
	case len(list) == 0:
		return 0
	case list[len(list)-1].to == 0:
		return c.head
	}
	return list[len(list)-1].to
}
