package check

import (
	"time"

	"github.com/confab-im/confab/deploy/faultlab/history"
)

// session is one sign-in on a device, by its connections.
type session struct {
	client
	id    string
	spans []span
	open  bool
}

// sessions finds connections that went on, or were made again, after the end of their session was acknowledged. While a fault stands between
// the server and the client the time does not count.
func (j *judge) sessions() {
	all, newest := map[string]*session{}, map[client]*session{}
	var ended []history.Record
	for _, r := range j.records {
		who := client{r.User, r.Device}
		switch r.Kind {
		case history.Connect:
			s := all[r.Session]
			if s == nil {
				s = &session{client: who, id: r.Session}
				all[r.Session] = s
			}
			if newest[who] = s; !s.open {
				s.spans, s.open = append(s.spans, span{r.At, forever}), true
			}
		case history.Close:
			if s := newest[who]; s != nil && s.open {
				s.spans[len(s.spans)-1].to, s.open = r.At, false
			}
		case history.Revoke:
			ended = append(ended, r)
		}
	}
	for _, r := range ended {
		s := all[r.Session]
		if s == nil {
			continue // it never had a connection
		}
		allowed := j.calmSince(r.At, j.bounds.Revocation)
		if allowed != forever {
			allowed += j.bounds.Revocation
		}
		took, undisturbed := time.Duration(0), allowed == r.At+j.bounds.Revocation
		for _, on := range s.spans {
			if on.to <= r.At {
				continue
			}
			took = max(took, on.to-r.At)
			if on.to > allowed {
				j.findf(RevokedOpen, "", 0, r.At, s.String(), "its session was ended at %v, and it had a connection from %v to %v", r.At, on.from, on.to)
			}
		}
		if undisturbed {
			j.revoked = append(j.revoked, took)
		}
	}
}
