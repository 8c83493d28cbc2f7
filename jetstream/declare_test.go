package jetstream_test

import (
	"context"
	"testing"
	"time"

	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/jetstream/jetstreamtest"
)

func TestDeclareIsRepeatable(t *testing.T) {
	server := jetstreamtest.Start(t)
	nc := server.Connect(t)
	for range 2 {
		began := time.Now()
		if err := jetstream.Declare(context.Background(), nc, jetstream.Profile{}); err != nil {
			t.Fatal(err)
		}
		t.Logf("declared in %v", time.Since(began))
	}
	began := time.Now()
	store := server.StoreOn(t, nc)
	t.Logf("opened in %v", time.Since(began))
	server.Restart(t)
	began = time.Now()
	server.StoreOn(t, nc)
	t.Logf("after a restart, opened in %v", time.Since(began))
	if store.Dedupe() != jetstream.DefaultDedupe {
		t.Fatalf("dedupe %v", store.Dedupe())
	}
}
