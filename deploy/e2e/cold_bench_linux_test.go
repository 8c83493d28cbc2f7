package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/confab-im/confab/edge/client"
	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// milestones is when a cold start got how far.
type milestones struct {
	mu     sync.Mutex
	demand time.Time            // the newest that said that calls are held for nobody
	ups    map[string]time.Time // the first of each unit
}

// listen notes what is said of a function.
func listen(b *testing.B, nc *nats.Conn, f subjects.Function) *milestones {
	b.Helper()
	m := &milestones{ups: map[string]time.Time{}}
	for verb, heard := range map[subjects.Verb]func(data []byte, now time.Time){
		subjects.Demand: func(data []byte, now time.Time) {
			var d wire.Demand
			if json.Unmarshal(data, &d) == nil && d.Held > 0 {
				m.demand = now
			}
		},
		subjects.Up: func(data []byte, now time.Time) {
			var up wire.InstanceUp
			if json.Unmarshal(data, &up) == nil && m.ups[up.Unit].IsZero() {
				m.ups[up.Unit] = now
			}
		},
	} {
		_, err := nc.Subscribe(subjects.Scale(f, verb), func(msg *nats.Msg) {
			m.mu.Lock()
			defer m.mu.Unlock()
			heard(msg.Data, time.Now())
		})
		if err != nil || nc.Flush() != nil {
			b.Fatalf("listen to %s: %v", verb, err)
		}
	}
	return m
}

func (m *milestones) of(unit string) (demand, up time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.demand, m.ups[unit]
}

// ran returns the unit and the start of the newest process of a function, from the log.
func (p *process) ran(f subjects.Function) (unit string, at time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, line := range slices.Backward(p.lines) {
		var record struct {
			Time                time.Time
			Msg, Function, Unit string
		}
		if strings.Contains(line, "process runs") && json.Unmarshal([]byte(line), &record) == nil && record.Function == string(f) {
			return record.Unit, record.Time
		}
	}
	return "", time.Time{}
}

// readyTime returns how long the only instance of a function took from its connection until it was up.
func readyTime(b *testing.B, nc *nats.Conn, f subjects.Function) time.Duration {
	b.Helper()
	answer, err := nc.Request("$SRV.STATS."+subjects.Service(f), nil, patience)
	if err != nil {
		b.Fatal(err)
	}
	var stats micro.Stats
	var own functions.MethodStats
	if err := json.Unmarshal(answer.Data, &stats); err != nil || len(stats.Endpoints) == 0 || json.Unmarshal(stats.Endpoints[0].Data, &own) != nil {
		b.Fatalf("the statistics are %s", answer.Data)
	}
	return time.Duration(own.ReadyMS * float64(time.Millisecond))
}

// BenchmarkCold measures a call from a socket to a function that sleeps, beside the same call once it is up, and the parts of the way.
func BenchmarkCold(b *testing.B) {
	p, target, _ := up(b, b.TempDir(), "--functions", "processes", "--idle-timeout", "300ms", "--sleep-all", "--log", "debug", "--log-format", "json")
	nc := target.operator(b)
	heard := listen(b, nc, "presence")
	ada := issued(b, target, "ada")
	ask := func() time.Duration {
		began := time.Now()
		call[wire.Presences](ada, "presence.get", wire.UsersQuery{Users: []subjects.User{"ada"}})
		return time.Since(began)
	}
	ask()
	names := []string{"cold", "call-demand", "demand-exec", "exec-connect", "connect-up", "up-answer", "hot"}
	took := map[string][]time.Duration{}
	for b.Loop() {
		asleep(b, p)
		began := time.Now()
		cold := ask()
		answered := began.Add(cold)
		hot, ready := ask(), readyTime(b, nc, "presence")
		unit, runs := p.ran("presence")
		demand, up := heard.of(unit)
		if up.IsZero() || demand.Before(began) {
			b.Fatalf("unit %q: demand at %v, up at %v", unit, demand, up)
		}
		for i, d := range []time.Duration{cold, demand.Sub(began), runs.Sub(demand), up.Sub(runs) - ready, ready, answered.Sub(up), hot} {
			took[names[i]] = append(took[names[i]], d)
		}
	}
	for _, name := range names {
		b.ReportMetric(p50(took[name])/1000, "ms/"+name+"-p50")
	}
	b.ReportMetric(p99(took["cold"])/1000, "ms/cold-p99")
	b.ReportMetric(p50(took["cold"])/p50(took["hot"]), "ratio-p50")
}

// p99 returns what 99 of 100 stayed below, in microseconds.
func p99(all []time.Duration) float64 {
	slices.Sort(all)
	return float64(all[len(all)*99/100]) / float64(time.Microsecond)
}

// BenchmarkBurst sends 1,000 messages at once to a function that sleeps, and counts what became of them.
func BenchmarkBurst(b *testing.B) {
	const senders, each = 50, 20
	p, target, _ := up(b, b.TempDir(), "--functions", "processes", "--idle-timeout", "300ms", "--sleep-all")
	peers := make([]*peer, senders)
	for i := range peers {
		peers[i] = issued(b, target, fmt.Sprintf("sender-%02d", i))
	}
	var mu sync.Mutex
	var waits []time.Duration
	stored := map[string]bool{} // conversation and seq
	answered := 0
	for b.Loop() {
		asleep(b, p)
		var all sync.WaitGroup
		for i, sender := range peers {
			for n := range each {
				all.Go(func() {
					began := time.Now()
					posted, err := try[wire.Posted](sender, "send.post", wire.Post{To: peers[(i+n+1)%senders].user, ClientID: client.NewClientID(), Body: text("%d", n)})
					if err != nil {
						b.Errorf("a post ends with %v", err)
						return
					}
					mu.Lock()
					defer mu.Unlock()
					answered++
					waits = append(waits, time.Since(began))
					stored[fmt.Sprint(posted.Conversation, " ", posted.Seq)] = true
				})
			}
		}
		all.Wait()
	}
	if len(stored) != answered {
		b.Errorf("%d answers speak of %d entries", answered, len(stored))
	}
	total := 0
	for _, p := range peers {
		for _, h := range call[wire.Heads](p, "history.heads", wire.HeadsQuery{Limit: 200}).Conversations {
			if strings.HasPrefix(string(h.Conversation), "d.") {
				total += int(h.Head.Seq)
			}
		}
	}
	total /= 2 // each is in the list of both
	b.ReportMetric(float64(answered)/float64(b.N), "answered")
	b.ReportMetric(float64(b.N*senders*each-answered), "lost")
	b.ReportMetric(float64(total-answered), "twice")
	b.ReportMetric(p50(waits)/1000, "ms/wait-p50")
	b.ReportMetric(float64(slices.Max(waits).Microseconds())/1000, "ms/wait-longest")
}

// BenchmarkAsleep reports the memory of everything: all in one process, all in processes that are up, and all asleep.
func BenchmarkAsleep(b *testing.B) {
	for b.Loop() {
		inside, target, _ := up(b, b.TempDir())
		use(b, target)
		outside, target, _ := up(b, b.TempDir(), "--functions", "processes", "--idle-timeout", "5s", "--sleep-all")
		use(b, target)
		sum := 0.0
		children := outside.children()
		for _, pid := range children {
			sum += resident(b, pid)
		}
		b.ReportMetric(float64(len(children)), "children")
		b.ReportMetric(sum, "MiB/children")
		asleep(b, outside)
		b.ReportMetric(resident(b, inside.cmd.Process.Pid), "MiB/inside")
		b.ReportMetric(resident(b, outside.cmd.Process.Pid), "MiB/asleep")
		inside.stop(b)
		outside.stop(b)
	}
}

// use calls every function.
func use(b *testing.B, target Target) {
	ada, bob := register(b, target, "ada"), register(b, target, "bob")
	posted := call[wire.Posted](ada, "send.post", wire.Post{To: bob.user, ClientID: client.NewClientID(), Body: text("hello")})
	call[wire.Page](bob, "history.page", wire.PageQuery{Conversation: posted.Conversation})
	call[wire.Marked](bob, "receipts.mark", wire.MarkQuery{Conversation: posted.Conversation, Read: posted.Seq})
	call[wire.Presences](ada, "presence.get", wire.UsersQuery{Users: []subjects.User{bob.user}})
}

// resident returns the memory of a process in MiB.
func resident(b *testing.B, pid int) float64 {
	b.Helper()
	data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		b.Fatal(err)
	}
	_, text, _ := strings.Cut(string(data), "VmRSS:")
	kib, err := strconv.Atoi(strings.Fields(text)[0])
	if err != nil {
		b.Fatal(err)
	}
	return float64(kib) / 1024
}
