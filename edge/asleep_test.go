package edge

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// An edge that starts while everything sleeps knows from the registry what there is: it is ready, holds what clients ask, and tells them all that they may call.
func TestAnEdgeStartsWhileEverythingSleeps(t *testing.T) {
	w := sleepingWorld(t)
	store := w.server.Store(t)
	asleep := map[subjects.Function]functions.Function{}
	for _, f := range w.functions() {
		asleep[f.Name] = f
		r := wire.Registered{Function: f.Name, Kind: "call", Scale: wire.InstanceScale{Max: 1, Wake: 1}}
		for _, m := range f.Methods {
			r.Methods = append(r.Methods, wire.InstanceMethod{Name: m.Name, Public: m.Public, Anonymous: m.Anonymous, Idempotent: m.Idempotent})
		}
		if err := store.Register(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	demands := w.tap(subjects.AllOf(subjects.Demand))
	r := w.edge()
	c := r.dial(t)
	// wakes starts what is asked for until a call is answered.
	wakes := func(answer chan wire.ServerFrame) wire.ServerFrame {
		t.Helper()
		for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
			select {
			case f := <-answer:
				return f
			default:
			}
			msg, err := demands.NextMsg(20 * time.Millisecond)
			if err != nil {
				continue
			}
			var d wire.Demand
			if err := json.Unmarshal(msg.Data, &d); err != nil {
				t.Fatal(err)
			}
			if f, ok := asleep[d.Function]; ok && d.Held > 0 {
				delete(asleep, d.Function)
				w.start(f)
			}
		}
		t.Fatal("the call is not answered")
		return wire.ServerFrame{}
	}
	if _, err := c.call("echo.say", struct{}{}); err.Code != wire.Unauthenticated {
		t.Errorf("a call before hello: %v", err)
	}
	hello := wakes(c.begin("hello", map[string]any{"token": w.token("ada", time.Hour), "device": "web"}))
	var welcome wire.Welcome
	if hello.Error != nil || json.Unmarshal(hello.OK, &welcome) != nil {
		t.Fatalf("hello is answered with %s, %v", hello.OK, hello.Error)
	}
	for _, call := range []string{"auth.login", "echo.say", "history.heads", "send.post"} {
		if !slices.Contains(welcome.Calls, call) {
			t.Errorf("hello does not list %s: %v", call, welcome.Calls)
		}
	}
	if _, sleeps := asleep["echo"]; !sleeps {
		t.Fatal("echo was woken for nothing")
	}
	if answer := wakes(c.begin("echo.say", map[string]any{"text": "x"})); answer.Error != nil || string(answer.OK) != `{"text":"x"}` {
		t.Errorf("a call to what sleeps is answered with %s, %v", answer.OK, answer.Error)
	}
	if _, err := c.call("echo.nothing", struct{}{}); err == nil || err.Code != wire.UnknownCall {
		t.Errorf("a method that is not registered: %v", err)
	}
}
