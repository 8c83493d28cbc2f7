package functions_test

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/functions/functionstest"
	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/jetstream/jetstreamtest"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

func registered(f subjects.Function, methods ...wire.InstanceMethod) wire.Registered {
	return wire.Registered{
		Function: f, Kind: "call", Concurrency: 4, Methods: methods, Scale: wire.InstanceScale{Max: 2, Wake: 1}, HoldMS: 20_000,
	}
}

func register(t *testing.T, store *jetstream.Store, records ...wire.Registered) {
	t.Helper()
	for _, r := range records {
		if err := store.Register(ctxFor(t, 10*time.Second), r); err != nil {
			t.Fatal(err)
		}
	}
}

var (
	publicSay  = wire.InstanceMethod{Name: "say", Public: true, Anonymous: true, TimeoutMS: 5000}
	privateSay = wire.InstanceMethod{Name: "say", TimeoutMS: 5000}
)

// The registry is read at the start, followed, and believed while no instance is up.
func TestASleepingFunctionIsKnownFromTheRegistry(t *testing.T) {
	t.Parallel()
	srv := jetstreamtest.Start(t)
	early := functionstest.Caller(t, srv.Connect(t)) // before there is a bucket
	store := srv.Store(t)
	register(t, store, registered("echo", publicSay, wire.InstanceMethod{Name: "gone", Public: true}), registered("poll", wire.InstanceMethod{Name: "vote", Public: true}))
	callers := []*functions.Caller{early, functionstest.Caller(t, srv.Connect(t))}
	sees := func(what string, public ...string) {
		t.Helper()
		for i, c := range callers {
			eventually(t, fmt.Sprintf("caller %d: %s", i, what), func() bool { return slices.Equal(c.Public(), public) })
		}
	}
	sees("what is registered", "echo.gone", "echo.say", "poll.vote")
	if m, known := callers[1].Method("echo", "say"); !known || !m.Anonymous || !callers[1].Knows("echo") || callers[1].Knows("nobody") {
		t.Errorf("the method is %+v, %t", m, known)
	}
	if _, err := callers[1].Call(ctxFor(t, 100*time.Millisecond), "echo", "say", nil, []byte(`{}`)); wire.CodeOf(err) != wire.Unavailable {
		t.Errorf("a call within its deadline: %v", err)
	}
	held := make(chan error, 1)
	go func() {
		_, err := callers[1].Call(ctxFor(t, 20*time.Second), "echo", "say", nil, []byte(`{"text":"x"}`))
		held <- err
	}()
	eventually(t, "the call is held", func() bool { return callers[1].Held("echo") == 1 })
	in := functionstest.Run(t, srv.Connect(t), echo(say))
	if err := <-held; err != nil {
		t.Errorf("the held call: %v", err)
	}
	sees("what the instance says", "echo.mine", "echo.say", "poll.vote")
	register(t, store, registered("echo", privateSay))
	in.Stop(t)
	sees("the change, after the bye", "poll.vote")
	register(t, store, registered("echo", publicSay))
	sees("another change", "echo.say", "poll.vote")
	if err := store.Unregister(ctxFor(t, 10*time.Second), "poll"); err != nil {
		t.Fatal(err)
	}
	sees("that one is gone", "echo.say")
	if known := callers[0].Functions(); len(known) != 1 || known[0].Registered.Scale.Max != 2 || len(known[0].Methods) != 1 {
		t.Errorf("the functions are %+v", known)
	}
}

// gate is a dialer that can be shut.
type gate struct{ shut atomic.Bool }

func (g *gate) Dial(network, address string) (net.Conn, error) {
	if g.shut.Load() {
		return nil, fmt.Errorf("no way to %s", address)
	}
	return net.Dial(network, address)
}

func TestTheRegistryIsReadAgainAfterAReconnect(t *testing.T) {
	t.Parallel()
	srv := jetstreamtest.Start(t)
	store := srv.Store(t)
	register(t, store, registered("echo", publicSay), registered("poll", publicSay))
	var g gate
	nc, err := nats.Connect(srv.URL, nats.SetCustomDialer(&g), nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	caller := functionstest.Caller(t, nc)
	eventually(t, "it is known", func() bool { return slices.Equal(caller.Public(), []string{"echo.say", "poll.say"}) })
	g.shut.Store(true)
	if err := nc.ForceReconnect(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the connection is down", func() bool { return !nc.IsConnected() })
	register(t, store, registered("echo", privateSay), registered("third", publicSay))
	if err := store.Unregister(ctxFor(t, 10*time.Second), "poll"); err != nil {
		t.Fatal(err)
	}
	g.shut.Store(false)
	eventually(t, "the changes are known", func() bool { return slices.Equal(caller.Public(), []string{"third.say"}) })
}

func TestJunkInTheRegistryIsIgnored(t *testing.T) {
	t.Parallel()
	srv := jetstreamtest.Start(t)
	store, nc := srv.Store(t), srv.Connect(t)
	put := func(key, value string) {
		t.Helper()
		if _, err := nc.Request(subjects.BucketSubject(subjects.BucketConfig, subjects.ConfigKey("functions."+key)), []byte(value), 10*time.Second); err != nil {
			t.Fatal(err)
		}
	}
	junk := map[string]string{
		"a": `{`, "b": `[]`, "c": ``, "d": `null`, "e": `{"function":"echo","methods":[{"name":"say","public":true}]}`,
		"f": `{"function":"f","methods":[{"name":"a.b","public":true}]}`, "g": `{"function":"g","methods":[{"name":">","public":true}]}`,
		"h": `{"function":"h","methods":[{"name":"x","public":true,"timeout_ms":9000000000000000000}]}`,
		"i": `{"function":"i","methods":[{"name":"x","public":true},{"name":"x"}]}`,
		"j": `{"function":"j","methods":[{"name":"x","anonymous":true}]}`,
		"l": `{"function":"l","hold_ms":-1,"methods":[{"name":"x","public":true}]}`,
		"M": `{"function":"M","methods":[{"name":"x","public":true}]}`, "n.o": `{"function":"n.o","methods":[{"name":"x","public":true}]}`,
		"p": `{"function":"p","description":"` + strings.Repeat("x", 31) + `","methods":[{"name":"x","public":true}]}`,
		"q": `{"function":"q","methods":[` + strings.TrimSuffix(strings.Repeat(`{"name":"x","public":true},`, 300), ",") + `]}`,
	}
	for key, value := range junk {
		put(key, value)
	}
	register(t, store, registered("echo", publicSay), registered("poll", publicSay))
	reader, listener := functionstest.Caller(t, nc), functionstest.Caller(t, srv.Connect(t))
	for _, c := range []*functions.Caller{reader, listener} {
		eventually(t, "the good ones are known", func() bool { return slices.Equal(c.Public(), []string{"echo.say", "poll.say"}) })
	}
	for key, value := range junk {
		put(key, value) // now as changes
	}
	put("poll", `{"function":"poll","methods":[{"name":"say","public":1}]}`)
	for _, c := range []*functions.Caller{reader, listener} {
		eventually(t, "a record that breaks does not count any more", func() bool { return slices.Equal(c.Public(), []string{"echo.say"}) })
	}
	register(t, store, registered("poll", publicSay))
	eventually(t, "it is mended", func() bool { return slices.Equal(reader.Public(), []string{"echo.say", "poll.say"}) })
}
