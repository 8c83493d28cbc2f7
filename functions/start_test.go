package functions_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/jetstream/jetstreamtest"
	"github.com/confab-im/confab/subjects"
)

// An instance that is asked to end when it has subscribed and has not said up yet has calls in its hands already, and answers them.
func TestAnInstanceThatEndsBeforeItIsUpLosesNoCall(t *testing.T) {
	server := jetstreamtest.Start(t)
	caller := server.Connect(t)
	answers, err := caller.SubscribeSync(caller.NewInbox())
	if err != nil {
		t.Fatal(err)
	}
	const calls = 20
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	// What is subscribed last reaches the server with all endpoints before it, and the up waits for the server's word.
	subscribed := &watched{mark: []byte("SUB " + subjects.Scale(subjects.Everyone, subjects.Who)), then: func() {
		for errors.Is(asked(caller), nats.ErrNoResponders) { // until the server has read it
		}
		for range calls {
			msg := nats.NewMsg(subjects.RPC("echo", "say"))
			msg.Reply, msg.Data = answers.Subject, []byte(`{}`)
			msg.Header.Set(subjects.HeaderUser, "ada")
			if err := caller.PublishMsg(msg); err != nil {
				t.Error(err)
			}
		}
		if err := caller.Flush(); err != nil {
			t.Error(err)
		}
		cancel()
	}}
	nc := server.Connect(t, nats.SetCustomDialer(subscribed))
	up := false
	slow := func(ctx context.Context, _ *functions.Call, _ *request) (answer, error) {
		select {
		case <-time.After(50 * time.Millisecond):
			return answer{}, nil
		case <-ctx.Done():
			return answer{}, ctx.Err()
		}
	}
	err = functions.Run(ctx, echo(slow), functions.Env{NATS: nc}, functions.Options{Ready: func(string) { up = true }})
	if err != nil || up {
		t.Fatalf("Run returned %v, and the instance was up: %v", err, up)
	}
	for i := range calls {
		msg, err := answers.NextMsg(patient)
		if err != nil {
			t.Fatalf("%d of %d calls are answered: %v", i, calls, err)
		}
		if code := msg.Header.Get(subjects.HeaderErrorCode); code != "" {
			t.Errorf("call %d is answered with %s", i, code)
		}
	}
}

// asked asks instances whether they are up. Nobody answers that: the error is nats.ErrTimeout where somebody hears it.
func asked(nc *nats.Conn) error {
	_, err := nc.Request(subjects.Scale(subjects.Everyone, subjects.Who), nil, 50*time.Millisecond)
	return err
}

// watched dials connections that call then once, after the mark was written.
type watched struct {
	mark []byte
	then func()
	once sync.Once
}

func (w *watched) Dial(network, address string) (net.Conn, error) {
	conn, err := net.Dial(network, address)
	return &watchedConn{Conn: conn, watched: w}, err
}

type watchedConn struct {
	net.Conn
	*watched
}

func (c *watchedConn) Write(data []byte) (int, error) {
	n, err := c.Conn.Write(data)
	if bytes.Contains(data, c.mark) {
		c.once.Do(c.then)
	}
	return n, err
}
