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
	shown := map[subjects.User]map[client][]history.Record{}
	for _, r := range j.records {
		if r.Kind == history.Presence {
			if shown[r.From] == nil {
				shown[r.From] = map[client][]history.Record{}
			}
			who := client{r.User, r.Device}
			shown[r.From][who] = append(shown[r.From][who], r)
		}
	}
	for _, u := range slices.Sorted(maps.Keys(shown)) {
		o := j.onlineOf(u)
		for _, who := range slices.SortedFunc(maps.Keys(shown[u]), byName) {
			list := shown[u][who]
			for _, r := range list {
				j.shownAs(u, o, who, r)
			}
			j.changes(u, o, who, list)
		}
	}
}

func byName(a, b client) int { return cmp.Or(compare(a.user, b.user), compare(a.device, b.device)) }

// shownAs looks at one state of a user that a client was shown.
func (j *judge) shownAs(u subjects.User, o online, who client, r history.Record) {
	from := max(0, r.At-j.bounds.Presence)
	switch {
	case r.State == wire.StateOffline && o.throughout(true, from, r.At+notices):
		j.findf(PresenceFlapped, "", 0, r.At, who.String(), "%s is shown as offline and was connected for the last %v", u, r.At-from)
	case r.State == wire.StateOnline && r.At > j.bounds.Presence && o.throughout(false, from, r.At+notices):
		j.findf(PresenceStale, "", 0, r.At, who.String(), "%s is shown as online and was not connected for the last %v", u, r.At-from)
	}
}

// changes measures how long a client needed to see that a user was gone or back, and finds where it never did. It counts only where the client
// itself was connected, no fault was there, and the change lasted.
func (j *judge) changes(u subjects.User, o online, who client, list []history.Record) {
	watches := online(nil)
	if l := j.clients[who]; l != nil {
		watches = l.spans
	}
	look := func(at, until time.Duration, is wire.State) (took time.Duration, seen, counts bool) {
		by := at + j.bounds.Presence
		if by > until || by > j.end() || !watches.throughout(true, at, by) || j.calmSince(at, j.bounds.Presence) != at {
			return 0, false, false
		}
		was := wire.State("")
		for _, r := range list {
			switch {
			case r.At < at:
				was = r.State
			case r.At <= by && (r.State == wire.StateOffline) == (is == wire.StateOffline):
				return r.At - at, true, was != ""
			}
		}
		return 0, false, was != "" && (was == wire.StateOffline) != (is == wire.StateOffline)
	}
	for i, s := range o {
		next := forever
		if i+1 < len(o) {
			next = o[i+1].from
		}
		if took, seen, counts := look(s.from, s.to, wire.StateOnline); seen && counts {
			j.online = append(j.online, took)
		}
		took, seen, counts := look(s.to, next, wire.StateOffline)
		switch {
		case !counts || s.to == forever:
		case seen:
			j.offline = append(j.offline, took)
		default:
			j.findf(PresenceStale, "", 0, s.to, who.String(), "%s was gone from then on and was not shown as offline within %v", u, j.bounds.Presence)
		}
	}
}

// end returns the time of the last record.
func (r *run) end() time.Duration {
	if len(r.records) == 0 {
		return 0
	}
	return r.records[len(r.records)-1].At
}
