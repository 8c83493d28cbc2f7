package functions_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/functions/functionstest"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// prompter answers what a Prompt began when the test says so.
type prompter struct {
	mu      sync.Mutex
	began   []string // texts, in the order in which a Prompt or the handler got them
	handled []string // those that the handler got
	open    map[string]func(functions.Handler, bool)
}

// function returns a function whose method say begins promptly what is neither "wait" nor "panic".
func (p *prompter) function() functions.Function {
	f := echo(func(ctx context.Context, c *functions.Call, in *request) (answer, error) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.began, p.handled = append(p.began, in.Text), append(p.handled, in.Text)
		return answer{in.Text}, nil
	})
	handlers := f.New
	f.New = func(ctx context.Context, env functions.Env) (functions.Handlers, error) {
		env.Promptly("say", functions.HandlePromptly(p.begin))
		return handlers(ctx, env)
	}
	return f
}

func (p *prompter) begin(_ context.Context, _ *functions.Call, in *request, ready func(functions.Handler, bool)) bool {
	switch in.Text {
	case "wait":
		return false
	case "panic":
		panic("in a prompt")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.began = append(p.began, in.Text)
	if p.open == nil {
		p.open = map[string]func(functions.Handler, bool){}
	}
	p.open[in.Text] = ready
	return true
}

// started reports whether a call was begun.
func (p *prompter) started(text string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.open[text] != nil
}

// finish has what was begun answered by a handler.
func (p *prompter) finish(text string, waits bool, h functions.Handler) {
	p.mu.Lock()
	ready := p.open[text]
	p.mu.Unlock()
	ready(h, waits)
}

func TestWhatAPromptBeginsNeedsNoWorker(t *testing.T) {
	t.Parallel()
	nc := connect(t)
	p := &prompter{}
	functionstest.Run(t, nc, p.function(), functions.Options{Concurrency: 2, Waiting: 8})
	caller := functionstest.Caller(t, nc)
	type result struct {
		data string
		err  error
	}
	call := func(conversation, text string) <-chan result {
		done := make(chan result, 1)
		go func() {
			data, err := caller.Call(ctxFor(t, 30*time.Second), "echo", "say", nil, fmt.Appendf(nil, `{"conversation":%q,"text":%q}`, conversation, text))
			done <- result{string(data), err}
		}()
		return done
	}
	text := func(s string) functions.Handler {
		return func(context.Context, *functions.Call) (any, error) { return answer{s}, nil }
	}
	expect := func(what string, got <-chan result, want string, code wire.Code) {
		t.Helper()
		if r := <-got; r.data != want || wire.CodeOf(r.err) != code {
			t.Errorf("%s: got %s, %v", what, r.data, r.err)
		}
	}
	one := call("a", "one")
	eventually(t, "the first is begun", func() bool { return p.started("one") })
	behind := call("a", "behind") // its lane is busy
	two := call("b", "two")
	eventually(t, "the second is begun", func() bool { return p.started("two") })
	third := call("c", "third") // both places at work are taken
	eventually(t, "what follows waits", func() bool {
		stats := statsOf(t, nc, "say")
		return stats.Working == 2 && stats.Waiting == 2
	})
	if p.started("behind") || p.started("third") {
		t.Error("a call passed another one of its lane, or more are at work than may be")
	}
	p.finish("one", false, text("1"))
	expect("an answer", one, `{"text":"1"}`, "")
	eventually(t, "the oldest that waits is begun next", func() bool { return p.started("third") || p.started("behind") })
	p.finish("two", false, func(context.Context, *functions.Call) (any, error) { return nil, errors.New("a secret") })
	expect("an error", two, "", wire.Internal)
	eventually(t, "all are begun", func() bool { return p.started("third") && p.started("behind") })
	p.finish("third", false, func(context.Context, *functions.Call) (any, error) { panic("in what is left") })
	expect("a panic", third, "", wire.Internal)
	p.finish("behind", true, text("2"))
	expect("an answer by a worker", behind, `{"text":"2"}`, "")
	expect("what waits", call("a", "wait"), `{"text":"wait"}`, "")
	expect("a prompt that panics", call("a", "panic"), `{"text":"panic"}`, "")
	p.mu.Lock()
	defer p.mu.Unlock()
	if fmt.Sprint(p.handled) != "[wait panic]" {
		t.Errorf("the handler got %v", p.handled)
	}
}

// What a Prompt began is answered before the end of a drain, like all that was handed over.
func TestADrainWaitsForWhatAPromptBegan(t *testing.T) {
	t.Parallel()
	nc := connect(t)
	p := &prompter{}
	in := functionstest.Run(t, nc, p.function())
	caller := functionstest.Caller(t, nc)
	answered := make(chan error, 2)
	call := func(text string) {
		_, err := caller.Call(ctxFor(t, 30*time.Second), "echo", "say", nil, fmt.Appendf(nil, `{"conversation":"a","text":%q}`, text))
		answered <- err
	}
	go call("one")
	eventually(t, "the first is begun", func() bool { return p.started("one") })
	go call("next")
	eventually(t, "the second waits", func() bool { return statsOf(t, nc, "say").Waiting == 1 })
	drained := make(chan struct{})
	go func() { in.Stop(t); close(drained) }()
	eventually(t, "the instance leaves", func() bool { return caller.Instances("echo") == 0 })
	for _, text := range []string{"one", "next"} {
		eventually(t, text+" is begun", func() bool { return p.started(text) })
		select {
		case <-drained:
			t.Fatal("the drain ended before the call")
		default:
		}
		p.finish(text, false, func(context.Context, *functions.Call) (any, error) { return answer{}, nil })
		if err := <-answered; err != nil {
			t.Error(err)
		}
	}
	<-drained
}

// statsOf returns what the instance of echo says of a method.
func statsOf(t *testing.T, nc *nats.Conn, method string) (stats functions.MethodStats) {
	t.Helper()
	subject, _ := micro.ControlSubject(micro.StatsVerb, subjects.Service("echo"), "")
	reply, err := nc.Request(subject, nil, 30*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	var all micro.Stats
	if err := json.Unmarshal(reply.Data, &all); err != nil {
		t.Fatal(err)
	}
	for _, e := range all.Endpoints {
		if e.Name == method {
			err = json.Unmarshal(e.Data, &stats)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return stats
}
