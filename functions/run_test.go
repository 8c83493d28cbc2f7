package functions_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/functions/functionstest"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

type handlerOf = func(ctx context.Context, call *functions.Call, in *request) (answer, error)

// request is Laned through its pointer, as the types of wire are.
type request struct {
	Conversation string `json:"conversation,omitempty"`
	Text         string `json:"text,omitempty"`
}

func (r *request) Lane(subjects.User) string { return r.Conversation }

type answer struct {
	Text string `json:"text"`
}

// echo returns a function named echo with one public method, say, and a few others that fail in their own ways.
func echo(say handlerOf) functions.Function {
	return functions.Function{
		Name: "echo", Description: "Says again what it is told",
		Methods: []functions.Method{
			{Name: "say", Description: "Says it", Public: true, Anonymous: true, Request: request{}, Response: answer{}},
			{Name: "mine", Public: true},
			{Name: "panic"},
			{Name: "secret"},
			{Name: "slow", Timeout: 50 * time.Millisecond},
			{Name: "raw", Idempotent: true},
			{Name: "wrapped"},
		},
		New: func(context.Context, functions.Env) (functions.Handlers, error) {
			return functions.Handlers{
				"say":  functions.Handle(say),
				"mine": func(_ context.Context, call *functions.Call) (any, error) { return answer{string(call.User)}, nil },
				"panic": func(context.Context, *functions.Call) (any, error) {
					panic("a secret in a panic")
				},
				"secret": func(context.Context, *functions.Call) (any, error) { return nil, errors.New("a secret in an error") },
				"slow": func(ctx context.Context, _ *functions.Call) (any, error) {
					<-ctx.Done()
					return nil, ctx.Err()
				},
				"raw": func(_ context.Context, call *functions.Call) (any, error) { return json.RawMessage(call.Data), nil },
				"wrapped": func(context.Context, *functions.Call) (any, error) {
					return nil, fmt.Errorf("look: %w", wire.RetryAfter(wire.RateLimited, time.Second, "Slower."))
				},
			}, nil
		},
	}
}

func say(_ context.Context, _ *functions.Call, in *request) (answer, error) {
	return answer{in.Text}, nil
}

func ctxFor(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestACallReachesItsHandlerAndItsCodeReachesTheCaller(t *testing.T) {
	nc := connect(t)
	in := functionstest.Run(t, nc, echo(say))
	caller := functionstest.Caller(t, nc)

	for name, test := range map[string]struct {
		method subjects.Method
		from   *functions.Call
		data   string
		want   string
		code   wire.Code
	}{
		"an answer":                          {"say", nil, `{"text":"<hi>"}`, `{"text":"<hi>"}`, ""},
		"the identity":                       {"mine", functionstest.As("ada"), `{}`, `{"text":"ada"}`, ""},
		"nobody where somebody must be":      {"mine", nil, `{}`, "", wire.Unauthenticated},
		"a doubled key":                      {"say", nil, `{"text":"a","text":"b"}`, "", wire.BadFrame},
		"a wrong type":                       {"say", nil, `{"text":1}`, "", wire.BadData},
		"a panic":                            {"panic", nil, ``, "", wire.Internal},
		"an error without a code":            {"secret", nil, ``, "", wire.Internal},
		"a method that outlives its time":    {"slow", nil, ``, "", wire.Timeout},
		"a code inside of another error":     {"wrapped", nil, ``, "", wire.RateLimited},
		"a method that the function has not": {"missing", nil, ``, "", wire.UnknownCall},
		"bytes as they are":                  {"raw", nil, `{"a": 1 }`, `{"a": 1 }`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			header := nats.Header{}
			if test.from != nil {
				header = test.from.Header()
			}
			got, err := caller.Call(ctxFor(t, 10*time.Second), "echo", test.method, header, []byte(test.data))
			if wire.CodeOf(err) != test.code || string(got) != test.want {
				t.Fatalf("got %s, %v; want %s, code %q", got, err, test.want, test.code)
			}
			if err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("the answer tells a secret: %v", err)
			}
			if e, _ := errors.AsType[*wire.Error](err); test.code == wire.RateLimited && e.RetryAfterMS != 1000 {
				t.Errorf("the advice got lost: %+v", e)
			}
		})
	}

	reply, err := nc.Request(subjects.RPC("echo", "say"), []byte(`{"text":"x"}`), 5*time.Second)
	if err != nil || reply.Header.Get(subjects.HeaderReply) != in.Name {
		t.Errorf("answer %v, %v does not name the instance %s", reply, err, in.Name)
	}
}

func TestHostileHeadersAreRefusedOrIgnored(t *testing.T) {
	nc := connect(t)
	functionstest.Run(t, nc, echo(say))
	for name, test := range map[string]struct {
		header nats.Header
		code   string
	}{
		"a user that is a pattern":     {nats.Header{subjects.HeaderUser: {">"}}, "bad_id"},
		"a device with a dot":          {nats.Header{subjects.HeaderUser: {"ada"}, subjects.HeaderDevice: {"a.b"}}, "bad_id"},
		"a deadline that has passed":   {nats.Header{subjects.HeaderUser: {"ada"}, subjects.HeaderDeadline: {"1"}}, "timeout"},
		"a deadline that is no number": {nats.Header{subjects.HeaderUser: {"ada"}, subjects.HeaderDeadline: {"soon"}}, ""},
		"a deadline beyond all time":   {nats.Header{subjects.HeaderUser: {"ada"}, subjects.HeaderDeadline: {"9223372036854775807"}}, ""},
		"a trace that is none":         {nats.Header{subjects.HeaderUser: {"ada"}, subjects.HeaderTraceparent: {"00-x"}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			msg := &nats.Msg{Subject: subjects.RPC("echo", "mine"), Header: test.header}
			reply, err := nc.RequestMsg(msg, 5*time.Second)
			if err != nil || reply.Header.Get(subjects.HeaderErrorCode) != test.code {
				t.Fatalf("got %v, %v; want the code %q", reply, err, test.code)
			}
		})
	}
}

func TestALaneKeepsItsOrderAndOthersDoNotWaitForIt(t *testing.T) {
	nc := connect(t)
	release := make(chan struct{})
	var mu sync.Mutex
	var order []string
	functionstest.Run(t, nc, echo(func(ctx context.Context, _ *functions.Call, in *request) (answer, error) {
		if in.Text == "first" {
			select {
			case <-release:
			case <-ctx.Done():
				return answer{}, ctx.Err()
			}
		}
		mu.Lock()
		defer mu.Unlock()
		if in.Conversation == "g.a" {
			order = append(order, in.Text)
		}
		return answer{in.Text}, nil
	}))
	inbox := nc.NewInbox()
	answers, err := nc.SubscribeSync(inbox)
	if err != nil {
		t.Fatal(err)
	}
	send := func(conversation, text string) {
		data, _ := json.Marshal(request{conversation, text})
		if err := nc.PublishRequest(subjects.RPC("echo", "say"), inbox, data); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{"first"}
	send("g.a", "first")
	for i := range 100 {
		want = append(want, fmt.Sprint(i))
		send("g.a", want[i+1])
	}
	send("g.b", "other")
	if msg, err := answers.NextMsg(10 * time.Second); err != nil || string(msg.Data) != `{"text":"other"}` {
		t.Fatalf("the other lane waits: %v, %v", msg, err)
	}
	close(release)
	for range want {
		if _, err := answers.NextMsg(10 * time.Second); err != nil {
			t.Fatal(err)
		}
	}
	if fmt.Sprint(order) != fmt.Sprint(want) {
		t.Errorf("order is %v", order)
	}
}

func TestWhatFindsNoPlaceToWaitIsRefusedAtOnce(t *testing.T) {
	nc := connect(t)
	release := make(chan struct{})
	functionstest.Run(t, nc, echo(func(ctx context.Context, _ *functions.Call, in *request) (answer, error) {
		<-release
		return answer{in.Text}, nil
	}), functions.Options{Concurrency: 2, Waiting: 8})
	var wg sync.WaitGroup
	var ok, refused atomic.Int32
	for i := range 30 {
		wg.Go(func() {
			data, _ := json.Marshal(request{Conversation: "g." + fmt.Sprint(i%15), Text: "x"})
			reply, err := nc.Request(subjects.RPC("echo", "say"), data, 10*time.Second)
			switch {
			case err == nil && reply.Header.Get(subjects.HeaderErrorCode) == "":
				ok.Add(1)
			case err == nil && reply.Header.Get(subjects.HeaderErrorCode) == string(wire.Unavailable) &&
				reply.Header.Get(subjects.HeaderRetryAfter) != "" && reply.Header.Get(subjects.HeaderRefused) != "":
				if refused.Add(1) == 20 {
					close(release)
				}
			default:
				t.Errorf("unexpected: %v, %v", reply, err)
			}
		})
	}
	wg.Wait()
	if ok.Load() != 10 || refused.Load() != 20 {
		t.Errorf("%d answered and %d refused; want 2 at work, 8 waiting and 20 refused", ok.Load(), refused.Load())
	}
}

func TestMicroToolsSeeTheFunction(t *testing.T) {
	nc := connect(t)
	in := functionstest.Run(t, nc, echo(say), functions.Options{Version: "1.2.3", Began: time.Now().Add(-time.Second)})
	for range 3 {
		if _, err := nc.Request(subjects.RPC("echo", "say"), []byte(`{"text":"x"}`), 5*time.Second); err != nil {
			t.Fatal(err)
		}
	}
	late := &nats.Msg{Subject: subjects.RPC("echo", "say"), Header: nats.Header{subjects.HeaderDeadline: {"1"}}}
	if _, err := nc.RequestMsg(late, 5*time.Second); err != nil {
		t.Fatal(err)
	}
	ask := func(verb micro.Verb, into any) {
		subject, _ := micro.ControlSubject(verb, subjects.Service("echo"), in.Name)
		reply, err := nc.Request(subject, nil, 5*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(reply.Data, into); err != nil {
			t.Fatal(err)
		}
	}
	var info micro.Info
	ask(micro.InfoVerb, &info)
	if info.Name != "im-echo" || info.Version != "1.2.3" || len(info.Endpoints) != 7 || info.Metadata["confab.view"] == "" {
		t.Errorf("info is %+v", info)
	}
	if e := info.Endpoints[0]; e.Name != "say" || e.QueueGroup != "im-echo" || e.Metadata["public"] != "true" || e.Metadata["timeout"] != "5s" {
		t.Errorf("endpoint is %+v", e)
	}
	var stats micro.Stats
	ask(micro.StatsVerb, &stats)
	var say functions.MethodStats
	if err := json.Unmarshal(stats.Endpoints[0].Data, &say); err != nil || say.Processed != 3 || say.Refused != 1 || say.Failed != 0 || say.P99MS <= 0 || say.P99MS < say.P50MS {
		t.Errorf("statistics are %s, %v", stats.Endpoints[0].Data, err)
	}
	if say.ConnectMS < 1000 || say.ReadyMS <= 0 {
		t.Errorf("the start is told as %+v", say)
	}
}
