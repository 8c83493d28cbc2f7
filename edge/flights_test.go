package edge

import (
	"context"
	"fmt"
	"testing"

	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/functions/functionstest"
	"github.com/confab-im/confab/subjects/wire"
)

// slowSend returns a world whose function send answers no post before the gate "send" is closed, and a channel that tells of each that has begun.
func slowSend(t *testing.T, options functions.Options) (w *world, begun chan struct{}) {
	w, begun = sleepingWorld(t), make(chan struct{}, 64)
	for _, f := range w.functions() {
		if f.Name != funcSend {
			w.start(f)
		}
	}
	f := function(funcSend, []functions.Method{{Name: "post", Public: true, Idempotent: true, Request: wire.Post{}}}, functions.Handlers{
		"post": functions.Handle(func(ctx context.Context, _ *functions.Call, in *wire.Post) (wire.Posted, error) {
			begun <- struct{}{}
			select {
			case <-w.gate("send"):
				return wire.Posted{Conversation: in.Conversation, Seq: 1}, nil
			case <-ctx.Done():
				return wire.Posted{}, ctx.Err()
			}
		}),
	})
	w.instances[funcSend] = functionstest.RunEnv(t, functions.Env{NATS: w.nc, Log: quiet}, f, options)
	return w, begun
}

func postTo(i int) map[string]any {
	return map[string]any{"conversation": fmt.Sprintf("g.x%d", i), "client_id": "c", "body": map[string]any{}}
}

// A socket that has ended waits for no answer, neither to a post that is on its way nor to what waits behind it.
func TestAnEndedSocketWaitsForNoPost(t *testing.T) {
	t.Parallel()
	w, begun := slowSend(t, functions.Options{})
	defer close(w.gate("send"))
	r := w.edge()
	c := r.connect(t, w, "ada", "web")
	eventually(t, "send is known", func() bool { return r.caller.Instances(funcSend) == 1 })
	c.begin("send.post", postTo(1))
	c.begin("send.post", postTo(2))
	for range 5 {
		c.begin("send.post", postTo(1)) // in the lane of the first
	}
	<-begun
	<-begun
	c.close()
	eventually(t, "the socket is gone", func() bool { return r.count.Load() == 0 && len(r.sockets.all()) == 0 })
	if len(begun) > 0 {
		t.Error("a post was sent for a socket that has ended")
	}
}

// Posts that the function has no place for are sent again until it has one.
func TestARefusedPostIsSentAgain(t *testing.T) {
	t.Parallel()
	w, begun := slowSend(t, functions.Options{Concurrency: 1, Waiting: 1})
	r := w.edge()
	c := r.connect(t, w, "ada", "web")
	eventually(t, "send is known", func() bool { return r.caller.Instances(funcSend) == 1 })
	const posts = 8
	var answers []chan wire.ServerFrame
	for i := range posts {
		answers = append(answers, c.begin("send.post", postTo(i)))
	}
	<-begun
	close(w.gate("send"))
	for i, answer := range answers {
		if f := <-answer; f.Error != nil {
			t.Errorf("post %d is answered %v", i, f.Error)
		}
	}
}
