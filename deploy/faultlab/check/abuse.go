package check

import (
	"time"

	"github.com/confab-im/confab/deploy/faultlab/history"
	"github.com/confab-im/confab/subjects/wire"
)

// misuse is the time in which a client misbehaved.
type misuse struct {
	span
	client
	name string
}

// abuse finds clients that misbehaved and were not limited, and holds how fast others' sends were meanwhile against how fast they were otherwise.
func (j *judge) abuse() {
	var list []misuse
	for _, r := range j.records {
		who := client{r.User, r.Device}
		switch r.Kind {
		case history.Abuse:
			list = append(list, misuse{span{r.At, forever}, who, r.Fault})
		case history.Limited, history.Close: // where its connection ends for another reason, that is the end of it too
			for i := range list {
				if m := &list[i]; m.client == who && m.to == forever {
					if m.to = r.At; r.Kind == history.Limited {
						j.limited = append(j.limited, m.to-m.from)
					}
				}
			}
		}
	}
	guilty := map[client]bool{}
	for _, m := range list {
		guilty[m.client] = true
		if from := j.calmSince(m.from, j.bounds.Limited); from != forever && m.to > from+j.bounds.Limited {
			j.findf(NotLimited, "", 0, m.from, m.String(), "%s for more than %v", m.name, j.bounds.Limited)
		}
	}
	if len(list) == 0 {
		return
	}
	for _, a := range j.attempts {
		switch {
		case guilty[a.client] || a.outcome != history.OK || j.calmSince(a.from, a.took()) != a.from:
		case during(list, a):
			j.beside = append(j.beside, a.took())
		default:
			j.alone = append(j.alone, a.took())
		}
	}
}

// during reports whether a try began while somebody misbehaved.
func during(list []misuse, a attempt) bool {
	for _, m := range list {
		if a.from >= m.from && a.from < m.to {
			return true
		}
	}
	return false
}

// Abuse is how others fared beside clients that misbehave.
type Abuse struct {
	Limited Times `json:"limited"` // from the begin of misbehaviour to the limit
	Alone   Times `json:"alone"`   // others' acknowledged sends while nobody misbehaved and no fault was there
	Beside  Times `json:"beside"`  // the same while somebody did
}

// Ratio returns how much slower the p99 of others' sends was beside clients that misbehave; 0 = not known.
func (a Abuse) Ratio() float64 {
	if a.Alone.P99 == 0 {
		return 0
	}
	return float64(a.Beside.P99) / float64(a.Alone.P99)
}

// Ready is how readiness followed the store.
type Ready struct {
	Denied   Times `json:"denied"`   // from the begin of a fault of the store to readiness that says so
	Regained Times `json:"regained"` // from its end to readiness again
}

// storeFaults is the faults that take the store away and leave the rest.
var storeFaults = map[string]bool{"full disk": true}

// readiness holds what processes said of themselves against what could be stored during faults of the store, and what clients were told.
func (j *judge) readiness() {
	for _, f := range j.broken {
		if !storeFaults[f.name] {
			continue
		}
		j.lies(f)
		j.bare(f)
		denied := false
		for _, r := range j.records {
			switch {
			case r.Kind != history.Ready || r.At < f.from:
			case r.Body != "" && !denied && r.At < f.to:
				denied = true
				j.denied = append(j.denied, r.At-f.from)
			case r.Body == "" && denied && r.At >= f.to:
				denied = false
				j.regained = append(j.regained, r.At-f.to)
			}
		}
	}
}

// lies finds readiness that went on for too long after the last send that was stored.
func (j *judge) lies(f trouble) {
	said := map[string]span{} // since when each process has been ready; to 0 = it is not
	newest := f.from          // acknowledgement
	look := func(now time.Duration) {
		since := newest + j.bounds.Ready
		if now <= since {
			return
		}
		for process, s := range said {
			if s.to == forever && now > max(s.from, since) {
				j.findf(ReadyLied, "", 0, now, process, "it says that it is ready, and nothing was stored since %v", newest)
				said[process] = span{}
			}
		}
	}
	tried := false
	for _, r := range j.records {
		if r.At > f.to {
			break
		}
		if r.At >= f.from && tried {
			look(r.At)
		}
		switch r.Kind {
		case history.Invoke:
			tried = tried || r.At >= f.from
		case history.OK:
			newest = max(newest, r.At)
		case history.Ready:
			if said[r.Process] = (span{}); r.Body == "" {
				said[r.Process] = span{r.At, forever}
			}
		}
	}
}

// bare finds sends that the store did not take and whose clients were left without an answer, or with one that names nothing.
func (j *judge) bare(f trouble) {
	const patience = 4 * time.Second // a try that ends sooner without a code lost its connection
	for _, a := range j.attempts {
		if a.from < f.from+j.bounds.Ready || a.to > f.to || a.outcome != history.Unknown {
			continue
		}
		if a.code == wire.Timeout || a.code == "" && a.took() >= patience {
			j.findf(BareTimeout, a.conversation, 0, a.from, a.client.String(), "a try of %s had the code %q after %v", a.id, a.code, a.took())
		}
	}
}
