package functions_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/functions/functionstest"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

func sayBroken(t *testing.T, nc *nats.Conn, said wire.Broken) {
	t.Helper()
	data, _ := json.Marshal(said)
	if err := nc.Publish(subjects.Scale("echo", subjects.Broken), data); err != nil {
		t.Fatal(err)
	}
}

// call makes one call and returns how long it took, and its error.
func call(t *testing.T, caller *functions.Caller, within time.Duration) (time.Duration, error) {
	t.Helper()
	began := time.Now()
	_, err := caller.Call(ctxFor(t, within), "echo", "say", nil, []byte(`{}`))
	return time.Since(began), err
}

func TestAFunctionThatDoesNotStartRefusesCallsAtOnce(t *testing.T) {
	t.Parallel()
	nc := connect(t)
	caller := functionstest.Caller(t, nc)
	refused := func(err error) bool {
		e, _ := errors.AsType[*wire.Error](err)
		return e != nil && e.Code == wire.Unavailable && strings.Contains(e.Message, "does not start") && !strings.Contains(err.Error(), "secret") &&
			e.RetryAfterMS > 0 && e.RetryAfterMS <= maxRetry.Milliseconds()
	}
	held := make(chan error, 1)
	go func() {
		_, err := call(t, caller, 20*time.Second)
		held <- err
	}()
	eventually(t, "the call is held", func() bool { return caller.Held("echo") == 1 })
	sayBroken(t, nc, wire.Broken{Function: "other", RetryAfterMS: 1000}) // of another function than its subject
	sayBroken(t, nc, wire.Broken{Function: "echo", Reason: "secret", RetryAfterMS: 1 << 62})
	if err := <-held; !refused(err) {
		t.Errorf("the held call: %v", err)
	}
	if took, err := call(t, caller, 20*time.Second); !refused(err) || took > time.Second {
		t.Errorf("a new call: %v after %s", err, took)
	}

	// An instance that comes up ends it at once, and while it is up nobody believes that the function is broken.
	in := functionstest.Run(t, nc, echo(say))
	eventually(t, "the instance is known", func() bool { return caller.Instances("echo") == 1 })
	sayBroken(t, nc, wire.Broken{Function: "echo", Reason: "secret", RetryAfterMS: 60_000})
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	if _, err := call(t, caller, 10*time.Second); err != nil {
		t.Errorf("with an instance: %v", err)
	}
	in.Stop(t)
	eventually(t, "the bye is heard", func() bool { return caller.Instances("echo") == 0 })

	// Without another word it lapses, and calls are held again.
	const lasts = 300 * time.Millisecond
	sayBroken(t, nc, wire.Broken{Function: "echo", RetryAfterMS: lasts.Milliseconds()})
	eventually(t, "calls are refused", func() bool { _, err := call(t, caller, 5*time.Millisecond); return refused(err) })
	go func() {
		var err error
		for err = errors.New("none yet"); err != nil && caller.Held("echo") == 0; {
			_, err = call(t, caller, 20*time.Second)
		}
		held <- err
	}()
	eventually(t, "calls are held again", func() bool { return caller.Held("echo") == 1 })
	functionstest.Run(t, nc, echo(say))
	if err := <-held; err != nil {
		t.Errorf("after the lapse: %v", err)
	}
}

// maxRetry is the longest that a caller is told to stay away, whatever was said.
const maxRetry = time.Minute
