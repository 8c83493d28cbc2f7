package auth_test

import (
	"context"
	"testing"
	"time"

	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/functions/auth"
	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/subjects"
)

// Servers that were all started anew have no leader for some seconds. Whoever starts meanwhile waits, since an instance that ends by itself counts as broken.
func TestAStartWaitsForTheStore(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	js, err := w.nc.JetStream()
	if err != nil {
		t.Fatal(err)
	}
	if err := js.DeleteStream(subjects.BucketStream(subjects.BucketSessions)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended, up := make(chan error, 1), make(chan string, 1)
	go func() {
		ended <- functions.Run(ctx, auth.Function(auth.Config{}), functions.Env{NATS: w.nc}, functions.Options{Ready: func(instance string) { up <- instance }})
	}()
	select {
	case err := <-ended:
		t.Fatalf("it ended without a store: %v", err)
	case <-up:
		t.Fatal("it is up without a store")
	case <-time.After(3 * time.Second):
	}
	if err := jetstream.Declare(ctx, w.nc, jetstream.Profile{}); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		t.Fatalf("it ended when the store came: %v", err)
	case <-up:
	case <-time.After(30 * time.Second):
		t.Fatal("it never came up")
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("it ended with %v", err)
	}
}
