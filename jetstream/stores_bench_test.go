package jetstream_test

import (
	"fmt"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/jetstream/jetstreamtest"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// BenchmarkStores measures what calls are made of, among 100,000 keys, as a ratio to a raw request that is answered by an echo.
func BenchmarkStores(b *testing.B) {
	server := jetstreamtest.Start(b)
	store := server.Store(b)
	ctx := b.Context()
	const total, large = 100_000, 10_000
	var requests []*nats.Msg
	for i := range total {
		u := subjects.User(fmt.Sprint("u", i))
		requests = append(requests, &nats.Msg{
			Subject: subjects.BucketSubject(subjects.BucketUsers, subjects.ProfileKey(u)), Data: fmt.Appendf(nil, `{"user":%q}`, u),
		})
		if len(requests) == 500 {
			if err := jetstream.PublishAll(store, ctx, requests); err != nil {
				b.Fatal(err)
			}
			requests = nil
		}
	}
	var crowd []jetstream.Member
	for i := range large {
		crowd = append(crowd, member("g.crowd", subjects.User(fmt.Sprint("u", i))))
	}
	var own []jetstream.Member
	for i := range 200 {
		own = append(own, member(subjects.Conversation(fmt.Sprint("g.c", i)), "ada"))
	}
	for _, members := range [][]jetstream.Member{crowd, own, {member("g.few", "ada"), member("g.few", "bob")}} {
		if err := store.PutMembers(ctx, members); err != nil {
			b.Fatal(err)
		}
	}
	var users []subjects.User
	for i := range 200 {
		users = append(users, subjects.User(fmt.Sprint("u", i*479)))
	}
	raw := echo(b, server.Connect(b))
	nobody := subjects.BucketSubject(subjects.BucketUsers, "t.nobody")
	for _, bench := range []struct {
		name      string
		operation func(i int) error
	}{
		{"one record from the leader", func(int) error { _, err := store.User(ctx, "u77"); return err }},
		{"200 of 100,000 records", func(i int) error {
			found, err := store.Users(ctx, users)
			if len(found) != len(users) {
				return fmt.Errorf("%d users, %w", len(found), err)
			}
			return err
		}},
		{"200 memberships of a user", func(int) error { _, err := store.Memberships(ctx, "ada"); return err }},
		{"few members", func(int) error { _, _, err := store.Members(ctx, "g.few", "", 200); return err }},
		{"200 of 10,000 members", func(int) error { _, _, err := store.Members(ctx, "g.crowd", "u5", 200); return err }},
		{"count few members", func(int) error { _, err := store.CountMembers(ctx, "g.few"); return err }},
		{"count 10,000 members", func(int) error { _, err := store.CountMembers(ctx, "g.crowd"); return err }},
		{"raise a cursor", func(i int) error {
			_, err := store.RaiseCursor(ctx, "g.few", "ada", at(wire.Seq(i+1)))
			return err
		}},
		{"publish", func(int) error { _, err := jetstream.Publish(store, ctx, nobody, nil, []byte("{}")); return err }},
	} {
		b.Run(bench.name, func(b *testing.B) {
			times(b, "×raw-request", func(i int) {
				if err := bench.operation(i); err != nil {
					b.Fatal(err)
				}
			}, raw)
		})
	}
}

// BenchmarkDeclare measures the first start and the next ones, which a standalone process waits for.
func BenchmarkDeclare(b *testing.B) {
	b.Run("on an empty disk", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			nc := jetstreamtest.Start(b).Connect(b)
			b.StartTimer()
			if err := jetstream.Declare(b.Context(), nc, jetstream.Profile{}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("again", func(b *testing.B) {
		nc := jetstreamtest.Start(b).Connect(b)
		for b.Loop() {
			if err := jetstream.Declare(b.Context(), nc, jetstream.Profile{}); err != nil {
				b.Fatal(err)
			}
		}
	})
}
