package manifest

import (
	"context"
	"fmt"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/subjects/wire"
)

// Registered returns what callers must know of the function while it sleeps.
func (m Manifest) Registered() wire.Registered {
	r := wire.Registered{
		Function: m.Function, Kind: string(m.Kind), Concurrency: m.Concurrency, HoldMS: m.Hold.Milliseconds(),
		Scale: wire.InstanceScale{Min: m.Scale.Min, Max: m.Scale.Max, Wake: m.Scale.Wake},
	}
	for _, name := range m.Names() {
		method := m.Methods[name]
		r.Methods = append(r.Methods, wire.InstanceMethod{
			Name: name, Public: method.Public, Anonymous: method.Anonymous, Idempotent: method.Idempotent, TimeoutMS: method.Timeout.Milliseconds(),
		})
	}
	return r
}

// Register leaves manifests in the store that was declared over nc, so that callers know functions that sleep. It is the deployer's act, and writes what has
// changed only.
func Register(ctx context.Context, nc *nats.Conn, manifests []Manifest) error {
	store, err := jetstream.Open(ctx, nc)
	if err != nil {
		return fmt.Errorf("register functions: %w", err)
	}
	defer store.Close()
	for _, m := range manifests {
		if err := store.Register(ctx, m.Registered()); err != nil {
			return fmt.Errorf("register function %s: %w", m.Function, err)
		}
	}
	return nil
}
