package natsconfig

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/jetstream"
)

// declared returns a world with the streams and buckets, and a connection that may do everything.
func declared(t *testing.T) (*world, *nats.Conn) {
	t.Helper()
	w := start(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := jetstream.Declare(ctx, w.connect(Deployer), jetstream.Profile{}); err != nil {
		t.Fatal(err)
	}
	tap, err := nats.Connect(w.tap)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tap.Close)
	return w, tap
}

func request(t *testing.T, nc *nats.Conn, subject, body string) string {
	t.Helper()
	answer, err := nc.Request(subject, []byte(body), patience)
	if err != nil {
		t.Fatalf("%s: %v", subject, err)
	}
	return string(answer.Data)
}

// TestAnAnswerOfJetStreamIsNoRequestToIt would fail without the mappings: the answer "not found" is empty, as a request to delete a stream is, and
// JetStream publishes it where the request says.
func TestAnAnswerOfJetStreamIsNoRequestToIt(t *testing.T) {
	w, tap := declared(t)
	if _, err := tap.Request("im.msg.p00.g.x", []byte(`{}`), patience); err != nil {
		t.Fatal(err)
	}
	for user, asked := range map[string]string{
		"history": "$JS.API.DIRECT.GET.IM_MESSAGES_00", "send": "$JS.API.STREAM.MSG.GET.IM_MESSAGES_00", Edge: "$JS.API.DIRECT.GET.KV_IM_CONFIG", Viewer: "$JS.API.DIRECT.GET.IM_MESSAGES_00",
	} {
		nc := w.connect(user)
		for _, reply := range []string{
			"$JS.API.STREAM.DELETE.IM_MESSAGES_00", "$JS.API.STREAM.PURGE.IM_MESSAGES_00", "_R_.api.STREAM.DELETE.IM_MESSAGES_00", "_api.STREAM.DELETE.IM_MESSAGES_00",
			"look.api.STREAM.DELETE.IM_MESSAGES_00",
		} {
			if err := nc.PublishRequest(asked, reply, []byte(`{"seq":77}`)); err != nil {
				t.Fatal(err)
			}
		}
		if err := nc.FlushTimeout(patience); err != nil {
			t.Fatal(err)
		}
		// What JetStream was asked before is answered before.
		request(t, nc, asked, `{"seq":77}`)
	}
	// An edge's leases are acknowledged with a stream and a sequence, which a purge could be made of.
	edge := w.connect(Edge)
	if err := edge.PublishRequest("$KV.IM_PRESENCE.e.x", "$JS.API.STREAM.PURGE.IM_MESSAGES_00", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := edge.Request("$KV.IM_PRESENCE.e.x", nil, patience); err != nil {
		t.Fatal(err)
	}
	if info := request(t, tap, "$JS.API.STREAM.INFO.IM_MESSAGES_00", ""); !strings.Contains(info, `"messages":1`) {
		t.Errorf("the stream is now %s", info)
	}
	// Who may do it does it still, as with any server.
	if answer := request(t, tap, "$JS.API.STREAM.PURGE.IM_MESSAGES_00", ""); !strings.Contains(answer, `"purged":1`) {
		t.Errorf("purging is answered %s", answer)
	}
	if answer := request(t, tap, "$JS.API.STREAM.DELETE.IM_MESSAGES_00", ""); !strings.Contains(answer, `"success":true`) {
		t.Errorf("deleting is answered %s", answer)
	}
}

// TestLookingChangesNothing has a viewer ask for answers everywhere it could do harm.
func TestLookingChangesNothing(t *testing.T) {
	w, tap := declared(t)
	if _, err := tap.Request("im.msg.p00.g.x", []byte(`{}`), patience); err != nil {
		t.Fatal(err)
	}
	heard, err := tap.SubscribeSync("im.>")
	if err != nil {
		t.Fatal(err)
	}
	others, err := tap.SubscribeSync("_INBOX.>")
	if err != nil {
		t.Fatal(err)
	}
	written, err := tap.SubscribeSync("$KV.>")
	if err != nil {
		t.Fatal(err)
	}
	if err := tap.FlushTimeout(patience); err != nil {
		t.Fatal(err)
	}
	viewer := w.connect(Viewer)
	for _, reply := range []string{"im.msg.p00.g.x", "im.live.g.x", "im.rpc.auth.issue", "im.scale.send.up", "im.edge.e.drain", "$KV.IM_USERS.credential.ada", "_INBOX.x"} {
		for asked, body := range map[string]string{"$JS.API.DIRECT.GET.IM_MESSAGES_00": `{"seq":1}`, "$JS.API.STREAM.MSG.GET.IM_MESSAGES_00": `{"seq":1}`, "$JS.API.STREAM.INFO.IM_MESSAGES_00": "", "$SRV.PING": ""} {
			if err := viewer.PublishRequest(asked, reply, []byte(body)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if answer := request(t, viewer, "$JS.API.DIRECT.GET.IM_MESSAGES_00", `{"seq":1}`); answer != "{}" {
		t.Errorf("the viewer reads %q", answer)
	}
	if err := tap.FlushTimeout(patience); err != nil {
		t.Fatal(err)
	}
	for _, sub := range []*nats.Subscription{heard, others, written} {
		for msg, err := sub.NextMsg(50 * time.Millisecond); err == nil; msg, err = sub.NextMsg(50 * time.Millisecond) {
			t.Errorf("%s was published for a viewer: %s", msg.Subject, msg.Data)
		}
	}
}

// TestAViewerReadsNobodysAnswers has the viewer listen on all inboxes, which it may in an account of its own.
func TestAViewerReadsNobodysAnswers(t *testing.T) {
	w, tap := declared(t)
	viewer := w.connect(Viewer)
	inboxes, err := viewer.SubscribeSync("_INBOX.>")
	if err != nil {
		t.Fatal(err)
	}
	live, err := viewer.SubscribeSync("im.live.>")
	if err != nil {
		t.Fatal(err)
	}
	if err := viewer.FlushTimeout(patience); err != nil {
		t.Fatal(err)
	}
	request(t, tap, "$JS.API.STREAM.INFO.KV_IM_SESSIONS", "")
	if err := tap.Publish("im.live.g.x", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := live.NextMsg(patience); err != nil {
		t.Errorf("a viewer hears no entry: %v", err)
	}
	if msg, err := inboxes.NextMsg(50 * time.Millisecond); err == nil {
		t.Errorf("the viewer reads %s: %s", msg.Subject, msg.Data)
	}
}
