package check

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/confab-im/confab/deploy/faultlab/history"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// marks finds read marks that went back.
func (j *judge) marks() {
	type place struct { // answers to one device come in the order of its questions, those to two do not
		client
		conversation subjects.Conversation
	}
	highest := map[place]wire.Seq{}
	for _, r := range j.records {
		if r.Kind != history.Mark {
			continue
		}
		at := place{client{r.User, r.Device}, r.Conversation}
		if r.Seq < highest[at] {
			j.findf(MarkWentBack, r.Conversation, r.Seq, r.At, string(r.User), "it was %d before", highest[at])
		}
		highest[at] = max(highest[at], r.Seq)
	}
}

// online is when a user had a connection, in order and without overlaps.
type online []span

// onlineOf adds up the connections of all devices of a user.
func (j *judge) onlineOf(u subjects.User) online {
	var all, merged online
	for who, l := range j.clients {
		if who.user == u {
			all = append(all, l.spans...)
		}
	}
	slices.SortFunc(all, func(a, b span) int { return cmp.Compare(a.from, b.from) })
	for _, s := range all {
		if n := len(merged); n > 0 && s.from <= merged[n-1].to {
			merged[n-1].to = max(merged[n-1].to, s.to)
			continue
		}
		merged = append(merged, s)
	}
	return merged
}

// throughout reports whether a user was connected, or was not, all the time from one moment to another.
func (o online) throughout(connected bool, from, to time.Duration) bool {
	for _, s := range o {
		if s.from <= from && s.to >= to {
			return connected
		}
		if s.from < to && s.to > from {
			return false
		}
	}
	return !connected
}

// notices is how much later than others a client may notice that its own connection has come or gone.
const notices = 5 * time.Second

// presence holds what clients were shown of others against what these did. What is shown at a moment may be true of any moment of the time
// before it that others need to see a change, and of a moment that the client in question notices later.
func (j *judge) presence() {
	users := map[subjects.User]bool{}
	for _, r := range j.records {
		if r.Kind == history.Presence {
			users[r.From] = true
		}
	}
	for _, u := range slices.Sorted(maps.Keys(users)) {
		o := j.onlineOf(u)
		for _, r := range j.records {
			if r.Kind != history.Presence || r.From != u {
				continue
			}
			from := max(0, r.At-j.bounds.Presence)
			switch {
			case r.State == wire.StateOffline && o.throughout(true, from, r.At+notices):
				j.findf(PresenceFlapped, "", 0, r.At, client{r.User, r.Device}.String(), "%s is shown as offline and was connected for the last %v", u, r.At-from)
			case r.State == wire.StateOnline && r.At > j.bounds.Presence && o.throughout(false, from, r.At+notices):
				j.findf(PresenceStale, "", 0, r.At, client{r.User, r.Device}.String(), "%s is shown as online and was not connected for the last %v", u, r.At-from)
			}
		}
	}
}

// memory holds what each process keeps at the end against what it had at the beginning.
func (j *judge) memory() {
	first, last := map[string]uint64{}, map[string]history.Record{}
	for _, r := range j.records {
		if r.Kind != history.Probe {
			continue
		}
		if first[r.Process] == 0 {
			first[r.Process] = r.Bytes
		}
		last[r.Process] = r
	}
	for _, name := range slices.Sorted(maps.Keys(first)) {
		if r := last[name]; float64(r.Bytes) > j.bounds.MemoryGrowth*float64(first[name])+float64(j.bounds.MemorySlack) {
			j.findf(MemoryNotReturns, "", 0, r.At, name, "%d bytes at the end, %d at the beginning", r.Bytes, first[name])
		}
	}
}
