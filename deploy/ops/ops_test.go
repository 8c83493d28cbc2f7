package ops_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/confab-im/confab/deploy/ops"
)

// A check that fails decides the status, also behind others that pass and are told of.
func TestOneFailingCheckIsEnough(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var broken error
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- ops.Serve(ctx, listener, prometheus.NewRegistry(), ops.Check{Name: "first", Ready: func() error { return nil }}, ops.Check{Name: "store", Ready: func() error { return broken }})
	}()
	for _, c := range []struct {
		broken error
		query  string
		status int
		text   string
	}{
		{nil, "", 200, "ok\n"},
		{nil, "?verbose", 200, "first: ok\nstore: ok\nok\n"},
		{errors.New("the disk is full"), "", 503, "store: the disk is full\n"},
		{errors.New("the disk is full"), "?verbose", 503, "first: ok\nstore: the disk is full\n"},
	} {
		broken = c.broken
		response, err := http.Get("http://" + listener.Addr().String() + "/readyz" + c.query)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if err != nil || response.StatusCode != c.status || string(text) != c.text {
			t.Errorf("/readyz%s with %v answers %d %q, want %d %q; %v", c.query, c.broken, response.StatusCode, text, c.status, c.text, err)
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
