package functions_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/functions/functionstest"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

func callerWith(t *testing.T, nc *nats.Conn, limits functions.Limits) *functions.Caller {
	t.Helper()
	caller, err := functions.NewCaller(nc, functionstest.Log(t), limits)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(caller.Close)
	return caller
}

// journal notes what was worked on: how often each text, and the order within each lane.
type journal struct {
	mu    sync.Mutex
	runs  map[string]int
	order map[string][]string
}

func (j *journal) say(_ context.Context, call *functions.Call, in *request) (answer, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.runs == nil {
		j.runs, j.order = map[string]int{}, map[string][]string{}
	}
	j.runs[in.Text]++
	lane := string(call.User) + " " + in.Conversation
	j.order[lane] = append(j.order[lane], in.Text)
	return answer{in.Text}, nil
}

func (j *journal) count() (ran, twice int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, n := range j.runs {
		ran++
		if n > 1 {
			twice++
		}
	}
	return ran, twice
}

// burst makes calls at once, those of each user in an order: each is held before the user's next begins. It returns how to wait for the answers.
func burst(t *testing.T, caller *functions.Caller, calls, users int) (failed func() (int, time.Duration)) {
	t.Helper()
	var wg sync.WaitGroup
	var bad atomic.Int32
	var longest atomic.Int64
	began := time.Now()
	for i := range calls {
		data, _ := json.Marshal(request{Conversation: fmt.Sprint("g.", i/users%2), Text: fmt.Sprint(i)})
		header := functionstest.As(subjects.User(fmt.Sprint("user", i%users))).Header()
		ctx := ctxFor(t, time.Minute)
		wg.Go(func() {
			got, err := caller.Call(ctx, "echo", "say", header, data)
			if err != nil || string(got) != fmt.Sprintf(`{"text":"%d"}`, i) {
				bad.Add(1)
				t.Errorf("call %d: %s, %v", i, got, err)
			}
			longest.Store(max(longest.Load(), int64(time.Since(began))))
		})
		if i%users == users-1 || i == calls-1 {
			eventually(t, "the calls are held", func() bool { return caller.Held("echo") == i+1 })
		}
	}
	return func() (int, time.Duration) { wg.Wait(); return int(bad.Load()), time.Duration(longest.Load()) }
}

// inOrder reports the lanes of which the order is not that of the calls.
func (j *journal) inOrder(t *testing.T) {
	t.Helper()
	j.mu.Lock()
	defer j.mu.Unlock()
	for lane, order := range j.order {
		if !slices.IsSortedFunc(order, func(a, b string) int { return len(a)*1000 - len(b)*1000 + strings.Compare(a, b) }) {
			t.Errorf("lane %s ran as %v", lane, order)
		}
	}
}

// The calls wake three instances on connections of their own, under the eyes of an operator and of a stranger who answers everything.
func TestAThousandCallsWakeAFunction(t *testing.T) {
	url := startServer(t)
	nc, operator := connect(t, url), connect(t, url)
	caller := functionstest.Caller(t, nc)
	if _, err := operator.Subscribe(">", func(*nats.Msg) {}); err != nil {
		t.Fatal(err)
	}
	if _, err := operator.Subscribe(subjects.AllRPC, func(m *nats.Msg) { _ = m.Respond([]byte(`{"stream":"SPY","seq":1}`)) }); err != nil {
		t.Fatal(err)
	}
	if err := operator.Flush(); err != nil {
		t.Fatal(err)
	}
	const calls = 1000
	wait := burst(t, caller, calls, 40)
	var j journal
	began := time.Now()
	for range 3 {
		functionstest.Run(t, connect(t, url), echo(j.say), functions.Options{Concurrency: 8, Waiting: 8})
	}
	failed, longest := wait()
	ran, twice := j.count()
	t.Logf("%d calls: %d failed, %d ran, %d ran twice; all answered %s after the start, longest wait %s", calls, failed, ran, twice, time.Since(began), longest)
	if failed != 0 || ran != calls || twice != 0 {
		t.Errorf("failed %d, ran %d, twice %d", failed, ran, twice)
	}
	j.inOrder(t)
	if caller.Held("echo") != 0 {
		t.Errorf("%d are still held", caller.Held("echo"))
	}
}

// What is released never exceeds what the instance says it works on at once.
func TestReleasesStayWithinTheWindow(t *testing.T) {
	nc := connect(t)
	caller := functionstest.Caller(t, nc)
	requests := make(chan *nats.Msg, 100)
	if _, err := nc.ChanSubscribe(subjects.RPC("echo", "say"), requests); err != nil {
		t.Fatal(err)
	}
	wait := burst(t, caller, 20, 1)
	ghost(t, nc, wire.InstanceMethod{Name: "say", TimeoutMS: 20000}) // with a concurrency of 1
	for left := 20; left > 0; left-- {
		m := <-requests
		if err := nc.Flush(); err != nil {
			t.Fatal(err)
		}
		if len(requests) > 0 || caller.Held("echo") != left-1 {
			t.Fatalf("%d more were released, %d of %d are held", len(requests), caller.Held("echo"), left-1)
		}
		var in request
		if err := json.Unmarshal(m.Data, &in); err != nil || in.Text != fmt.Sprint(20-left) {
			t.Fatalf("%s came as number %d", m.Data, 20-left)
		}
		data, _ := json.Marshal(answer{in.Text})
		_ = m.RespondMsg(&nats.Msg{Header: nats.Header{subjects.HeaderReply: {"ghost"}}, Data: data})
		ghost(t, nc, wire.InstanceMethod{Name: "say", TimeoutMS: 20000}) // its beat
	}
	wait()
}

func TestACallThatExpiresWhileItIsHeldNeverRuns(t *testing.T) {
	nc := connect(t)
	caller := functionstest.Caller(t, nc)
	var j journal
	_, err := caller.Call(ctxFor(t, 50*time.Millisecond), "echo", "say", nil, []byte(`{"text":"late"}`))
	if wire.CodeOf(err) != wire.Unavailable {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	gone := make(chan error, 1)
	go func() {
		_, err := caller.Call(ctx, "echo", "say", nil, []byte(`{"text":"gone"}`))
		gone <- err
	}()
	eventually(t, "the call is held", func() bool { return caller.Held("echo") == 1 })
	cancel() // as when the client's socket closes
	if err := <-gone; wire.CodeOf(err) != wire.Unavailable {
		t.Errorf("got %v", err)
	}
	functionstest.Run(t, nc, echo(j.say))
	if _, err := caller.Call(ctxFor(t, 10*time.Second), "echo", "say", nil, []byte(`{"text":"after"}`)); err != nil {
		t.Fatal(err)
	}
	if j.runs["late"]+j.runs["gone"] != 0 {
		t.Errorf("ran %v", j.runs)
	}
}

func TestWhatIsHeldIsBounded(t *testing.T) {
	nc := connect(t)
	for name, test := range map[string]struct {
		limits  functions.Limits
		callers []*functions.Call // of the held calls and then of the one too many
		other   *functions.Call   // may still be held; nil = nobody
	}{
		"for a user":     {functions.Limits{PerClient: 2}, []*functions.Call{{User: "ada"}, {User: "ada", Address: "192.0.2.2"}, {User: "ada"}}, &functions.Call{User: "bob"}},
		"for an address": {functions.Limits{PerClient: 1}, []*functions.Call{{Address: "192.0.2.1"}, {Address: "192.0.2.1"}}, &functions.Call{Address: "192.0.2.2"}},
		"for a function": {functions.Limits{PerFunction: 2}, []*functions.Call{{User: "ada"}, {User: "bob"}, {User: "eve"}}, nil},
		"in bytes":       {functions.Limits{Bytes: 1200}, []*functions.Call{{User: "ada"}, {User: "bob"}, {User: "eve"}}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			caller := callerWith(t, nc, test.limits)
			var wg sync.WaitGroup
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			hold := func(from *functions.Call) {
				held := caller.Held("echo")
				wg.Go(func() { _, _ = caller.Call(ctx, "echo", "say", from.Header(), []byte(`{}`)) })
				eventually(t, "the call is held", func() bool { return caller.Held("echo") == held+1 })
			}
			last := len(test.callers) - 1
			for _, from := range test.callers[:last] {
				hold(from)
			}
			began := time.Now()
			_, err := caller.Call(ctx, "echo", "say", test.callers[last].Header(), []byte(`{}`))
			if e, _ := errors.AsType[*wire.Error](err); e == nil || e.Code != wire.Unavailable || e.RetryAfterMS == 0 || time.Since(began) > time.Second {
				t.Errorf("one too many: %v after %s", err, time.Since(began))
			}
			if test.other != nil {
				hold(test.other)
			}
			cancel()
			wg.Wait()
			if caller.Held("echo") != 0 {
				t.Errorf("%d are still held", caller.Held("echo"))
			}
		})
	}
}

// A full instance says that nothing ran: the calls wait for their turn, in order, instead of failing.
func TestCallsToAFullInstanceAreTriedAgain(t *testing.T) {
	nc := connect(t)
	caller := functionstest.Caller(t, nc)
	var j journal
	release := make(chan struct{})
	in := functionstest.Run(t, nc, echo(func(ctx context.Context, call *functions.Call, in *request) (answer, error) {
		<-release
		return j.say(ctx, call, in)
	}), functions.Options{Concurrency: 2, Waiting: 2})
	eventually(t, in.Name+" is known", func() bool { return caller.Instances("echo") == 1 })
	const calls = 50
	var wg sync.WaitGroup
	for i := range calls {
		wg.Go(func() {
			data, _ := json.Marshal(request{Conversation: fmt.Sprint("g.", i), Text: fmt.Sprint(i)})
			if _, err := caller.Call(ctxFor(t, 20*time.Second), "echo", "say", functionstest.As("ada").Header(), data); err != nil {
				t.Errorf("call %d: %v", i, err)
			}
		})
	}
	eventually(t, "the others are held", func() bool { return caller.Held("echo") >= calls-10 })
	if _, err := caller.Call(ctxFor(t, 100*time.Millisecond), "echo", "say", nil, []byte(`{}`)); wire.CodeOf(err) != wire.Unavailable {
		t.Errorf("a call without the time to wait: %v", err)
	}
	close(release)
	wg.Wait()
	if ran, twice := j.count(); ran != calls || twice != 0 {
		t.Errorf("%d ran, %d twice", ran, twice)
	}
}

// Of the instance's events the first up and the bye are lost, and a subscriber hides that nobody is there: who, the beat and the lease heal it.
func TestNoSingleEventMatters(t *testing.T) {
	t.Parallel()
	url := startServer(t)
	nc, instance := connect(t, url), connect(t, url)
	caller := functionstest.Caller(t, nc)
	if _, err := nc.Subscribe(subjects.AllRPC, func(*nats.Msg) {}); err != nil {
		t.Fatal(err)
	}
	wait := burst(t, caller, 3, 3)
	if _, err := instance.QueueSubscribe(subjects.RPC("echo", "say"), subjects.Service("echo"), func(m *nats.Msg) {
		var in request
		_ = json.Unmarshal(m.Data, &in)
		data, _ := json.Marshal(answer{in.Text})
		_ = m.RespondMsg(&nats.Msg{Header: nats.Header{subjects.HeaderReply: {"ghost"}}, Data: data})
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := instance.Subscribe(subjects.Scale("echo", subjects.Who), func(*nats.Msg) {
		ghost(t, instance, wire.InstanceMethod{Name: "say", TimeoutMS: 5000})
	}); err != nil {
		t.Fatal(err)
	}
	if failed, longest := wait(); failed != 0 || longest > 5*time.Second {
		t.Errorf("%d failed, the longest waited %s", failed, longest)
	}
	if caller.Instances("echo") != 1 {
		t.Fatal("the instance is not known")
	}
	instance.Close() // killed
	eventually(t, "the lease ends", func() bool { return caller.Instances("echo") == 0 })
	wait = burst(t, caller, 3, 3)
	functionstest.Run(t, connect(t, url), echo(say))
	if failed, _ := wait(); failed != 0 {
		t.Errorf("%d failed", failed)
	}
}

// process is an instance on a connection that can be cut off, as when its machine dies.
func process(t *testing.T, url string, f functions.Function, options functions.Options) (kill func()) {
	t.Helper()
	nc, err := nats.Connect(url, nats.NoReconnect())
	if err != nil {
		t.Fatal(err)
	}
	up, result := make(chan string, 1), make(chan error, 1)
	options.Ready = func(in string) { up <- in }
	go func() {
		result <- functions.Run(context.Background(), f, functions.Env{NATS: nc, Log: functionstest.Log(t)}, options)
	}()
	<-up
	var once sync.Once
	kill = func() { once.Do(func() { nc.Close(); <-result }) }
	t.Cleanup(kill)
	return kill
}

// Those that the killed instance had are unknown, and repeated as the method is idempotent; those behind them were never sent.
func TestAnInstanceThatDiesWithCallsInHandLosesNone(t *testing.T) {
	t.Parallel()
	url := startServer(t)
	caller := functionstest.Caller(t, connect(t, url))
	f := func(h functions.Handler) functions.Function {
		return functions.Function{
			Name: "echo", Description: "Dies", Methods: []functions.Method{{Name: "say", Idempotent: true, Timeout: time.Second}},
			New: func(context.Context, functions.Env) (functions.Handlers, error) {
				return functions.Handlers{"say": h}, nil
			},
		}
	}
	const calls = 40
	wait := burst(t, caller, calls, 20)
	took := make(chan struct{}, calls)
	kill := process(t, url, f(func(ctx context.Context, _ *functions.Call) (any, error) {
		took <- struct{}{}
		<-ctx.Done()
		return nil, ctx.Err()
	}), functions.Options{Concurrency: 4})
	for range 4 {
		<-took
	}
	kill()
	if held := caller.Held("echo"); held < calls-8 {
		t.Errorf("only %d are still held", held)
	}
	var j journal
	process(t, url, f(functions.Handle(j.say)), functions.Options{Concurrency: 4})
	failed, longest := wait()
	if ran, twice := j.count(); failed != 0 || ran != calls || twice != 0 {
		t.Errorf("failed %d, ran %d, twice %d, longest wait %s", failed, ran, twice, longest)
	}
}

// The acknowledgement of a stream that captures calls is no answer, and does not keep a function from being woken.
func TestAStreamThatCapturesCallsAnswersNone(t *testing.T) {
	ns, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, NoLog: true, NoSigs: true, JetStream: true, StoreDir: t.TempDir(),
	})
	if err != nil {
		t.Fatal(err)
	}
	ns.Start()
	t.Cleanup(func() { ns.Shutdown(); ns.WaitForShutdown() })
	if !ns.ReadyForConnections(20 * time.Second) {
		t.Fatal("the server is not ready")
	}
	nc := connect(t, ns.ClientURL())
	spy, _ := json.Marshal(map[string]any{
		"name": "SPY", "subjects": []string{subjects.AllRPC}, "storage": "memory", "retention": "limits", "num_replicas": 1,
	})
	if reply, err := nc.Request("$JS.API.STREAM.CREATE.SPY", spy, 10*time.Second); err != nil || strings.Contains(string(reply.Data), `"error"`) {
		t.Fatalf("make the stream: %v, %v", reply, err)
	}
	caller := functionstest.Caller(t, nc)
	wait := burst(t, caller, 20, 5)
	var j journal
	in := functionstest.Run(t, nc, echo(j.say))
	wait()
	in.Stop(t)
	eventually(t, "the bye is heard", func() bool { return caller.Instances("echo") == 0 })
	wait = burst(t, caller, 20, 5) // none is sent into the stream
	functionstest.Run(t, nc, echo(j.say))
	if failed, _ := wait(); failed != 0 {
		t.Errorf("%d failed", failed)
	}
}

func TestClosingACallerRefusesWhatItHolds(t *testing.T) {
	caller := callerWith(t, connect(t), functions.Limits{})
	result := make(chan error, 1)
	go func() {
		_, err := caller.Call(ctxFor(t, 20*time.Second), "echo", "say", nil, nil)
		result <- err
	}()
	eventually(t, "the call is held", func() bool { return caller.Held("echo") == 1 })
	caller.Close()
	if err := <-result; wire.CodeOf(err) != wire.Unavailable {
		t.Errorf("got %v", err)
	}
}

func TestABareRequestWakesAFunctionThroughARelay(t *testing.T) {
	nc := connect(t)
	caller := functionstest.Caller(t, nc)
	relay, err := caller.Relay("edge-1")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { relay.Run(ctx) })
	defer func() { // with a call that nobody will answer
		if err := nc.PublishRequest(subjects.Relayed("nobody", "home"), nc.NewInbox(), nil); err != nil {
			t.Error(err)
		}
		eventually(t, "the last call is held", func() bool { return caller.Held("nobody") == 1 })
		began := time.Now()
		cancel()
		wg.Wait()
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("the relay took %s to end", took)
		}
	}()
	ask := func(m subjects.Method, header nats.Header) (*nats.Msg, error) {
		return nc.RequestMsg(&nats.Msg{Subject: subjects.Relayed("echo", m), Header: header, Data: []byte(`{"text":"x"}`)}, 10*time.Second)
	}
	result := make(chan error, 1)
	go func() {
		reply, err := ask("say", nil)
		if err == nil && (string(reply.Data) != `{"text":"x"}` || reply.Header.Get(subjects.HeaderReply) != "edge-1") {
			err = fmt.Errorf("answered %v", reply)
		}
		result <- err
	}()
	eventually(t, "the call is held", func() bool { return caller.Held("echo") == 1 })
	functionstest.Run(t, nc, echo(say))
	if err := <-result; err != nil {
		t.Error(err)
	}
	if reply, err := ask("mine", functionstest.As("ada").Header()); err != nil || string(reply.Data) != `{"text":"ada"}` {
		t.Errorf("with an identity: %v, %v", reply, err)
	}
	for m, code := range map[subjects.Method]wire.Code{"mine": wire.Unauthenticated, "wrapped": wire.RateLimited, "missing": wire.UnknownCall, "UP": wire.UnknownCall} {
		reply, err := ask(m, nil)
		if err != nil || reply.Header.Get(subjects.HeaderErrorCode) != string(code) || (code == wire.RateLimited) != (reply.Header.Get(subjects.HeaderRetryAfter) == "1000") {
			t.Errorf("%s: %v, %v; want the code %s", m, reply, err, code)
		}
	}
}
