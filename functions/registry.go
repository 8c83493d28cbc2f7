package functions

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// How the registry is read.
const (
	readEvery    = time.Minute            // also where nothing is known to have changed
	readAgain    = 250 * time.Millisecond // after a read that failed; doubled up to readEvery
	readPatience = 5 * time.Second        // for the whole answer
	maxRecords   = 1024                   // functions in one answer; the server gives no more
	maxReadBytes = 8 << 20                // of records in one answer; what is beyond is not known until it sleeps no more
)

// Bounds of a record. One that is beyond them was not written by a deployer.
const (
	maxRegisteredMethods = 256
	maxRegisteredTime    = time.Hour // of a timeout and of a hold
)

// registry reads what deployers have registered, with bare requests: what stands there is needed before the first call, and nothing else of
// JetStream is. One goroutine, run, reads; what it finds it hands to the table.
type registry struct {
	nc      *nats.Conn
	log     *slog.Logger
	changes chan *nats.Msg // filled by the connection's reader; when it is full changes are dropped and the next read mends that
	sub     *nats.Subscription
	found   chan finding
	done    chan struct{}
	wg      sync.WaitGroup
}

// finding is what was read, or heard of one function.
type finding struct {
	records []record
	whole   bool // there are no others
}

// record is a key of the registry, not yet looked at.
type record struct {
	function subjects.Function
	sequence uint64
	data     []byte
	gone     bool // it was removed
}

func newRegistry(nc *nats.Conn, log *slog.Logger) (*registry, error) {
	r := &registry{nc: nc, log: log, changes: make(chan *nats.Msg, 256), found: make(chan finding), done: make(chan struct{})}
	var err error
	if r.sub, err = nc.ChanSubscribe(subjects.AllRegistered, r.changes); err != nil {
		return nil, err
	}
	connected := nc.StatusChanged(nats.CONNECTED)
	r.wg.Go(func() {
		defer nc.RemoveStatusListener(connected)
		r.run(connected)
	})
	return r, nil
}

func (r *registry) close() {
	_ = r.sub.Unsubscribe() // fails only where the connection has forgotten it already
	close(r.done)
	r.wg.Wait()
}

func (r *registry) run(connected <-chan nats.Status) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	again := readAgain
	for {
		var f finding
		select {
		case <-r.done:
			return
		case <-connected:
			again = readAgain
			timer.Reset(0) // changes may have been missed
			continue
		case msg := <-r.changes:
			changed, ok := recordOf(msg, msg.Subject, subjects.Registered(""))
			if !ok {
				continue
			}
			f.records = []record{changed}
		case <-timer.C:
			records, err := r.read()
			if err != nil {
				if errors.Is(err, errTooManyRecords) {
					r.log.Warn("registry not read", "err", err)
				}
				timer.Reset(again)
				again = min(2*again, readEvery)
				continue
			}
			again = readAgain
			timer.Reset(readEvery)
			f = finding{records, true}
		}
		select {
		case r.found <- f:
		case <-r.done:
			return
		}
	}
}

// read asks for all records at once. The server answers with one message each and one without data, with a status, at the end (ADR-31 of NATS).
func (r *registry) read() ([]record, error) {
	answers := make(chan *nats.Msg, maxRecords+16)
	inbox := r.nc.NewInbox()
	sub, err := r.nc.ChanSubscribe(inbox, answers)
	if err != nil {
		return nil, err
	}
	defer func() { _ = sub.Unsubscribe() }() // fails only where the connection has forgotten it already
	prefix := subjects.BucketSubject(subjects.BucketConfig, subjects.RegistryKey(""))
	request := fmt.Sprintf(`{"multi_last":[%q],"max_bytes":%d}`, prefix+"*", maxReadBytes)
	if err := r.nc.PublishRequest(subjects.DirectRead(subjects.BucketStream(subjects.BucketConfig)), inbox, []byte(request)); err != nil {
		return nil, err
	}
	patience := time.NewTimer(readPatience)
	defer patience.Stop()
	var records []record
	for {
		select {
		case <-r.done:
			return nil, errors.New("the caller was closed")
		case <-patience.C:
			return nil, fmt.Errorf("no answer within %s", readPatience)
		case msg := <-answers:
			switch status := first(msg.Header, "Status"); {
			case status == "":
				if found, ok := recordOf(msg, first(msg.Header, "Nats-Subject"), prefix); ok {
					records = append(records, found)
				}
			case status == "204", status == "404" && len(records) == 0: // all of them, or none
				return records, nil
			case status == "413":
				return nil, errTooManyRecords
			default:
				return nil, fmt.Errorf("the answer has status %s: %s", status, first(msg.Header, "Description"))
			}
		}
	}
}

// errTooManyRecords is the one failure of a read that time does not mend.
var errTooManyRecords = fmt.Errorf("more than %d functions are registered; those that sleep are not known", maxRecords)

// recordOf reads all of a record but the record itself.
func recordOf(msg *nats.Msg, subject, prefix string) (record, bool) {
	name, ours := strings.CutPrefix(subject, prefix)
	sequence, err := strconv.ParseUint(first(msg.Header, "Nats-Sequence"), 10, 64)
	if !ours || err != nil {
		return record{}, false
	}
	gone := first(msg.Header, "KV-Operation") != "" || first(msg.Header, "Nats-Marker-Reason") != ""
	return record{subjects.Function(name), sequence, msg.Data, gone}, true
}

// parseRegistered reads what is registered of a function. Whoever can write there may be wrong, or hostile: what is not within its bounds is an
// error, and no part of it counts.
func parseRegistered(f subjects.Function, data []byte) (wire.Registered, error) {
	var r wire.Registered
	if err := json.Unmarshal(data, &r); err != nil {
		return wire.Registered{}, fmt.Errorf("read a record: %w", err)
	}
	bounds := func(ms int64) bool { return ms >= 0 && ms <= maxRegisteredTime.Milliseconds() }
	switch {
	case r.Function != f:
		return wire.Registered{}, errors.New("it speaks of another function")
	case len(r.Methods) > maxRegisteredMethods:
		return wire.Registered{}, fmt.Errorf("it has %d methods, more than %d", len(r.Methods), maxRegisteredMethods)
	case !bounds(r.HoldMS):
		return wire.Registered{}, fmt.Errorf("it holds calls for %d ms, not 0 to an hour", r.HoldMS)
	case len(r.Description) > MaxDescription:
		return wire.Registered{}, fmt.Errorf("its description has %d bytes, more than %d", len(r.Description), MaxDescription)
	}
	seen := map[subjects.Method]bool{}
	for _, m := range r.Methods {
		if _, _, err := subjects.ParseCall(string(f) + "." + string(m.Name)); err != nil {
			return wire.Registered{}, fmt.Errorf("a method: %w", err)
		}
		if seen[m.Name] || !bounds(m.TimeoutMS) || m.Anonymous && !m.Public {
			return wire.Registered{}, fmt.Errorf("its method %s is there twice, or has a timeout of %d ms, or is anonymous and not public", m.Name, m.TimeoutMS)
		}
		seen[m.Name] = true
	}
	return r, nil
}

// registered is what the table keeps of a record.
type registered struct {
	wire.Registered
	sequence uint64
	heard    time.Time // when this was heard as a change, rather than read
	void     bool      // nothing of it counts: it was removed, or is broken
	methods  map[subjects.Method]knownMethod
}

// changeStands is for how long a change that was heard counts for more than an older record that is read: the replica that is read may be a
// moment behind. After that what is read counts, also where its sequence is lower, as when the store was made anew.
const changeStands = 5 * time.Second

// learn takes in what was read or heard of the registry.
func (t *table) learn(f finding) {
	now := time.Now()
	seen := map[subjects.Function]bool{}
	var changed []subjects.Function
	for _, found := range f.records {
		seen[found.function] = true
		if t.learnRecord(found, f.whole, now) {
			changed = append(changed, found.function)
		}
	}
	for name, have := range t.registered {
		if f.whole && !seen[name] && now.Sub(have.heard) >= changeStands {
			delete(t.registered, name)
			changed = append(changed, name)
		}
	}
	t.publish(changed...)
}

// learnRecord reports whether what callers know changes.
func (t *table) learnRecord(found record, read bool, now time.Time) bool {
	have := t.registered[found.function]
	if read && have != nil && (found.sequence == have.sequence || found.sequence < have.sequence && now.Sub(have.heard) < changeStands) {
		return false
	}
	next := &registered{sequence: found.sequence, void: found.gone}
	if !read {
		next.heard = now
	}
	if !found.gone {
		r, err := parseRegistered(found.function, found.data)
		if next.void = err != nil; next.void {
			t.log.Warn("record of the registry is ignored", "function", shortened(string(found.function)), "err", err)
		}
		next.Registered, next.methods = r, methodsOf(found.function, r.Methods)
	}
	t.registered[found.function] = next
	return !next.void || have != nil && !have.void
}

// shortened keeps a name that nobody vouches for from filling the log.
func shortened(s string) string { return s[:min(len(s), 64)] }

// methodsOf returns methods as the table keeps them, by name.
func methodsOf(f subjects.Function, list []wire.InstanceMethod) map[subjects.Method]knownMethod {
	methods := make(map[subjects.Method]knownMethod, len(list))
	for _, m := range list {
		methods[m.Name] = knownMethod{InstanceMethod: m, subject: subjects.RPC(f, m.Name), timeout: timeoutOf(m)}
	}
	return methods
}

func timeoutOf(m wire.InstanceMethod) time.Duration {
	if m.TimeoutMS <= 0 {
		return DefaultTimeout
	}
	return time.Duration(m.TimeoutMS) * time.Millisecond
}
