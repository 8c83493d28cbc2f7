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
		Scale: wire.InstanceScale{Min: m.Scale.Min, Max: m.Scale.Max, Wake: m.Scale.Wake}, Events: m.Events, Jobs: m.Jobs,
	}
	for _, name := range m.Names() {
		method := m.Methods[name]
		r.Methods = append(r.Methods, wire.InstanceMethod{
			Name: name, Public: method.Public, Anonymous: method.Anonymous, Idempotent: method.Idempotent, TimeoutMS: method.Timeout.Milliseconds(),
		})
	}
	return r
}

// Declare makes the consumers of functions that work on entries or jobs, and registers all, so that callers and whoever starts instances know those that sleep. The store
// must have been declared over nc. It is the deployer's act, and changes only what differs. A function that is not among the manifests stays as it is.
func Declare(ctx context.Context, nc *nats.Conn, manifests []Manifest) error {
	if err := jetstream.DeclareConsumers(ctx, nc, Consumers(manifests)); err != nil {
		return err
	}
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
