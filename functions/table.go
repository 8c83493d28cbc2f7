package functions

import (
	"encoding/json"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// lease is how long an instance counts as up after its last beat; doubt is after how much silence it is asked.
const (
	lease    = 3 * time.Second
	doubt    = 2 * time.Second
	sweep    = 500 * time.Millisecond
	askPause = 50 * time.Millisecond // between two questions about one function

	maxCapacity = 1 << 20 // of one instance, whatever it says, so that sums do not overflow
)

// table knows which instances are up. One goroutine, run, owns instances and asked; everybody reads the snapshot, which is replaced as a
// whole and rarely: when an instance comes or goes.
type table struct {
	nc        *nats.Conn
	log       *slog.Logger
	gates     *gates
	current   atomic.Pointer[snapshot]
	events    chan *nats.Msg // filled by the connection's reader; when it is full events are dropped and the next beats mend that
	questions chan subjects.Function
	wrong     chan correction
	subs      []*nats.Subscription
	done      chan struct{}
	wg        sync.WaitGroup

	instances map[subjects.Function]map[string]*known
	methods   map[subjects.Function]map[subjects.Method]knownMethod // as instances said, also of those that are gone
	gone      map[subjects.Function]int                             // the capacity of all instances that have left
	asked     map[subjects.Function]time.Time
	broken    map[subjects.Function]*broken // of functions without instances
	lost      map[subjects.Function]bool    // whose last instance went without a bye

	registry   *registry
	registered map[subjects.Function]*registered
}

// known is one instance.
type known struct {
	up   wire.InstanceUp
	seen time.Time // monotonic, of its newest beat
}

// capacity returns how many calls the instance works on at once.
func (k *known) capacity() int { return min(max(1, k.up.Concurrency), maxCapacity) }

// correction says that a call sent at a time reached no instance of the function.
type correction struct {
	function subjects.Function
	sent     time.Time
}

// snapshot is what callers read. It never changes once it is stored.
type snapshot struct {
	functions map[subjects.Function]*functionState
	public    []string
	changed   chan struct{} // closed when a newer snapshot stands
}

type functionState struct {
	instances int
	capacity  int    // calls that the instances work on at once, all together
	waking    uint64 // counts how often the function came up from nothing
	gone      int    // the capacity of all instances that have left, summed up since the start
	names     map[string]struct{}
	methods   map[subjects.Method]knownMethod
	gate      *gate
	broken    *broken // nil = not
	lost      bool    // none is up, and the last one went without a bye
	impaired  string  // why calls cannot succeed, as an instance says; "" while another does not, or none is up

	registered *wire.Registered // nil = not
}

type knownMethod struct {
	wire.InstanceMethod
	subject string
	timeout time.Duration
}

// alive reports whether an instance of a function is up.
func (s *snapshot) alive(f subjects.Function, instance string) bool {
	state := s.functions[f]
	if state == nil {
		return false
	}
	_, up := state.names[instance]
	return up
}

// asleep reports whether no instance of a function is up.
func (s *snapshot) asleep(f subjects.Function) bool {
	state := s.functions[f]
	return state == nil || state.instances == 0
}

func (s *snapshot) method(f subjects.Function, m subjects.Method) (knownMethod, bool) {
	state := s.functions[f]
	if state == nil {
		return knownMethod{}, false
	}
	method, ok := state.methods[m]
	return method, ok
}

func newTable(nc *nats.Conn, log *slog.Logger, gates *gates) (*table, error) {
	t := &table{
		nc: nc, log: log, gates: gates, done: make(chan struct{}),
		events: make(chan *nats.Msg, 1024), questions: make(chan subjects.Function, 64), wrong: make(chan correction, 64),
		instances: map[subjects.Function]map[string]*known{},
		methods:   map[subjects.Function]map[subjects.Method]knownMethod{},
		gone:      map[subjects.Function]int{},
		asked:     map[subjects.Function]time.Time{},
		broken:    map[subjects.Function]*broken{},
		lost:      map[subjects.Function]bool{},

		registered: map[subjects.Function]*registered{},
	}
	t.current.Store(&snapshot{changed: make(chan struct{})})
	// One channel for all, so that an instance's up and bye stay in order.
	for _, verb := range []subjects.Verb{subjects.Up, subjects.Bye, subjects.Broken} {
		sub, err := nc.ChanSubscribe(subjects.AllOf(verb), t.events)
		if err != nil {
			t.unsubscribe()
			return nil, err
		}
		t.subs = append(t.subs, sub)
	}
	var err error
	if t.registry, err = newRegistry(nc, log); err != nil {
		t.unsubscribe()
		return nil, err
	}
	connected := nc.StatusChanged(nats.CONNECTED)
	t.wg.Go(func() {
		defer nc.RemoveStatusListener(connected)
		t.run(connected)
	})
	t.publishWho(subjects.Everyone)
	return t, nil
}

func (t *table) now() *snapshot { return t.current.Load() }

// ask has the instances of a function say up again. It does not wait; questions in quick succession are one.
func (t *table) ask(f subjects.Function) {
	select {
	case t.questions <- f:
	default: // as many are under way already
	}
}

// correct takes instances out that were last heard of before a call reached nobody.
func (t *table) correct(f subjects.Function, sent time.Time) {
	select {
	case t.wrong <- correction{f, sent}:
	default: // others say the same
	}
}

func (t *table) unsubscribe() {
	for _, sub := range t.subs {
		_ = sub.Unsubscribe() // fails only where the connection has forgotten it already
	}
}

func (t *table) close() {
	t.unsubscribe()
	t.registry.close()
	close(t.done)
	t.wg.Wait()
}

func (t *table) run(connected <-chan nats.Status) {
	ticker := time.NewTicker(sweep)
	defer ticker.Stop()
	for {
		select {
		case <-t.done:
			return
		case msg := <-t.events:
			t.heard(msg)
		case f := <-t.registry.found:
			t.learn(f)
		case f := <-t.questions:
			if now := time.Now(); now.Sub(t.asked[f]) > askPause {
				t.asked[f] = now
				t.publishWho(f)
			}
		case c := <-t.wrong:
			t.forget(c.function, false, func(k *known) bool { return k.seen.Before(c.sent) })
		case <-connected:
			t.renew()
		case <-ticker.C:
			t.sweep()
		}
	}
}

// heard reads an event. What cannot be read, or speaks of another function than its subject, is ignored.
func (t *table) heard(msg *nats.Msg) {
	var up wire.InstanceUp // a bye and a broken have a part of its fields
	err := json.Unmarshal(msg.Data, &up)
	switch {
	case err == nil && msg.Subject == subjects.Scale(up.Function, subjects.Broken):
		t.heardBroken(up.Function, msg.Data)
	case err == nil && up.Instance != "" && msg.Subject == subjects.Scale(up.Function, subjects.Up):
		t.cameUp(up)
	case err == nil && up.Instance != "" && msg.Subject == subjects.Scale(up.Function, subjects.Bye):
		t.forget(up.Function, true, func(k *known) bool { return k.up.Instance == up.Instance })
	default:
		t.log.Debug("scaling event cannot be read", "subject", msg.Subject)
	}
}

func (t *table) cameUp(up wire.InstanceUp) {
	if k := t.instances[up.Function][up.Instance]; k != nil {
		k.seen = time.Now()
		if k.up.Impaired != up.Impaired {
			k.up.Impaired = up.Impaired
			t.publish(up.Function)
		}
		return
	}
	if t.instances[up.Function] == nil {
		t.instances[up.Function] = map[string]*known{}
	}
	t.instances[up.Function][up.Instance] = &known{up: up, seen: time.Now()}
	delete(t.broken, up.Function)
	delete(t.lost, up.Function)
	t.publish(up.Function)
}

// forget takes out the instances of a function of which gone is true; bye says that they have said so themselves.
func (t *table) forget(f subjects.Function, bye bool, gone func(*known) bool) {
	before := len(t.instances[f])
	maps.DeleteFunc(t.instances[f], func(_ string, k *known) bool {
		if gone(k) {
			t.gone[f] += k.capacity()
			return true
		}
		return false
	})
	if after := len(t.instances[f]); after != before {
		t.lost[f] = after == 0 && !bye
		t.publish(f)
	}
}

// renew gives everybody a new lease after a reconnect: their beats could not be heard.
func (t *table) renew() {
	for _, instances := range t.instances {
		for _, k := range instances {
			k.seen = time.Now()
		}
	}
	t.publishWho(subjects.Everyone)
}

// sweep ends leases and asks those that have been silent. While the connection is down nothing can be heard, so nothing ends.
func (t *table) sweep() {
	if !t.nc.IsConnected() {
		return
	}
	now := time.Now()
	for f, instances := range t.instances {
		for _, k := range instances {
			if now.Sub(k.seen) > doubt {
				t.publishWho(f)
				break
			}
		}
		t.forget(f, false, func(k *known) bool { return now.Sub(k.seen) > lease })
	}
	t.lapse(now)
	maps.DeleteFunc(t.asked, func(_ subjects.Function, at time.Time) bool { return now.Sub(at) > lease })
}

func (t *table) publishWho(f subjects.Function) {
	if err := t.nc.Publish(subjects.Scale(f, subjects.Who), nil); err != nil {
		t.log.Debug("question not sent", "function", string(f), "err", err)
	}
}

// publish replaces the snapshot after a change of functions.
func (t *table) publish(names ...subjects.Function) {
	if len(names) == 0 {
		return
	}
	old := t.now()
	next := &snapshot{functions: maps.Clone(old.functions), changed: make(chan struct{})}
	if next.functions == nil {
		next.functions = map[subjects.Function]*functionState{}
	}
	for _, f := range names {
		next.functions[f] = t.state(f, old)
	}
	for name, state := range next.functions {
		for _, m := range state.methods {
			if m.Public {
				next.public = append(next.public, string(name)+"."+string(m.Name))
			}
		}
	}
	slices.Sort(next.public)
	t.current.Store(next)
	close(old.changed)
}

// state returns what callers see of a function. While instances are up, what they say counts; while none is, what is registered; else what
// instances said last.
func (t *table) state(f subjects.Function, old *snapshot) *functionState {
	if len(t.instances[f]) > 0 {
		t.methods[f] = merge(f, t.instances[f])
	}
	state := &functionState{
		instances: len(t.instances[f]), gone: t.gone[f], names: map[string]struct{}{}, methods: t.methods[f], gate: t.gates.of(f), broken: t.broken[f],
		lost: t.lost[f],
	}
	if r := t.registered[f]; r != nil && !r.void {
		state.registered = &r.Registered
		if state.instances == 0 {
			state.methods = r.methods
		}
	}
	able := false
	for name, k := range t.instances[f] {
		state.capacity += k.capacity()
		state.names[name] = struct{}{}
		state.impaired = max(state.impaired, k.up.Impaired)
		able = able || k.up.Impaired == ""
	}
	if able {
		state.impaired = ""
	}
	if before := old.functions[f]; before != nil {
		state.waking = before.waking
	}
	if state.instances > 0 && old.asleep(f) {
		state.waking++
	}
	return state
}

// merge returns the methods of a function's instances. Where releases differ, the more careful word counts.
func merge(f subjects.Function, instances map[string]*known) map[subjects.Method]knownMethod {
	methods := map[subjects.Method]knownMethod{}
	for _, k := range instances {
		for _, m := range k.up.Methods {
			if _, _, err := subjects.ParseCall(string(f) + "." + string(m.Name)); err != nil {
				continue
			}
			if other, ok := methods[m.Name]; ok {
				m.Public = m.Public && other.Public
				m.Anonymous = m.Anonymous && other.Anonymous
				m.Idempotent = m.Idempotent && other.Idempotent
				m.TimeoutMS = max(m.TimeoutMS, other.TimeoutMS)
			}
			methods[m.Name] = knownMethod{InstanceMethod: m, subject: subjects.RPC(f, m.Name), timeout: timeoutOf(m)}
		}
	}
	return methods
}
