package scaler_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"

	"github.com/confab-im/confab/deploy/process"
	"github.com/confab-im/confab/deploy/scaler"
	"github.com/confab-im/confab/functions"
)

// The test's own program is the scaler or an instance of a function when these are set in its environment.
const (
	beScaler = "BE_THE_SCALER"
	beEcho   = "BE_ECHO_ON_NATS_AT"
)

func TestMain(m *testing.M) {
	if os.Getenv(beScaler) != "" {
		process.Main(scaler.Main)
		return
	}
	if url := os.Getenv(beEcho); url != "" {
		process.Main(func(ctx context.Context) error { return runEcho(ctx, url) })
		return
	}
	// Most of these tests wait for what takes seconds, on few processors or many.
	flag.Parse()
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

// What instances of echo are like.
const (
	concurrency = 4
	callTimeout = 20 * time.Second
	ranSubject  = "test.ran" // where they say what they work on
)

// work is a call to echo.
type work struct {
	ID int   `json:"id"`
	MS int64 `json:"ms"` // how long it takes
}

func runEcho(ctx context.Context, url string) error {
	nc, err := nats.Connect(url, nats.MaxReconnects(-1))
	if err != nil {
		return err
	}
	defer nc.Close()
	echo := functions.Function{
		Name: "echo", Description: "answers after a while",
		Methods: []functions.Method{{Name: "say", Timeout: callTimeout, Request: work{}, Response: work{}}},
		New: func(context.Context, functions.Env) (functions.Handlers, error) {
			return functions.Handlers{"say": functions.Handle(func(ctx context.Context, _ *functions.Call, in *work) (work, error) {
				if err := nc.Publish(ranSubject, fmt.Append(nil, in.ID)); err != nil {
					return work{}, err
				}
				select {
				case <-time.After(time.Duration(in.MS) * time.Millisecond):
				case <-ctx.Done():
				}
				return *in, ctx.Err()
			})}, nil
		},
	}
	return functions.Run(ctx, echo, functions.Env{NATS: nc}, functions.Options{Concurrency: concurrency, Waiting: concurrency})
}

func encode(t testing.TB, v any) []byte {
	t.Helper()
	body, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return body
}
