package standalone

import (
	"testing"

	"github.com/confab-im/confab/jetstream/jetstreamtest"
)

func TestAMachineThatAwaitsARestoreGoesOnOnceThereIsAStore(t *testing.T) {
	server := jetstreamtest.Start(t)
	if reason := unrestored(t.Context(), server.Connect(t)); reason == "" {
		t.Error("it does not wait where there is no store")
	}
	server.Store(t)
	if reason := unrestored(t.Context(), server.Connect(t)); reason != "" {
		t.Errorf("it %s where there is a store", reason)
	}
}
