package send_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/functions/functionstest"
	"github.com/confab-im/confab/functions/send"
	"github.com/confab-im/confab/jetstream/jetstreamtest"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// BenchmarkPost compares a post through a Caller, from request to answer, with a bare publish of a message of the same size to the same stream,
// on servers that sync every write and on servers that do not.
func BenchmarkPost(b *testing.B) {
	for _, sync := range []bool{true, false} {
		options := []jetstreamtest.Option{}
		if sync {
			options = append(options, jetstreamtest.Synced())
		}
		b.Run(fmt.Sprintf("synced=%v", sync), func(b *testing.B) {
			w := newWorld(b, options...)
			w.users("ada", "bob")
			body := functionstest.Text("%s", strings.Repeat("x", 200))
			b.Run("publish", func(b *testing.B) {
				msg := nats.Msg{Subject: subjects.Message("d.bare.publish"), Data: []byte(strings.Repeat("x", 450))}
				for b.Loop() {
					if _, err := w.nc.RequestMsgWithContext(b.Context(), &msg); err != nil {
						b.Fatal(err)
					}
				}
			})
			post := func(b *testing.B, u, to subjects.User) {
				in := wire.Post{To: to, ClientID: functionstest.ClientID(), Body: body}
				if _, err := functions.Invoke[wire.Post, wire.Posted](b.Context(), w.caller, functionstest.As(u), send.Name, send.MethodPost, in); err != nil {
					b.Error(err)
				}
			}
			b.Run("post", func(b *testing.B) {
				for b.Loop() {
					post(b, "ada", "bob")
				}
			})
			b.Run("post-parallel", func(b *testing.B) {
				const peers = 32
				for i := range peers {
					u := subjects.User(fmt.Sprintf("p%d", i))
					if exists, err := w.store.UserExists(b.Context(), u); err != nil || !exists {
						w.users(u)
					}
				}
				b.SetParallelism(peers / 2)
				next := make(chan subjects.User, peers)
				for i := range peers {
					next <- subjects.User(fmt.Sprintf("p%d", i))
				}
				b.RunParallel(func(pb *testing.PB) {
					peer := <-next
					defer func() { next <- peer }()
					for pb.Next() {
						post(b, peer, "bob")
					}
				})
			})
		})
	}
}
