package jetstream

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/subjects"
)

// A leader that is killed takes the questions with it that it had. They are asked again while the call has time.
func TestAReadOutlivesTheLeaderThatHadIt(t *testing.T) {
	srv, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, NoLog: true, NoSigs: true})
	if err != nil {
		t.Fatal(err)
	}
	srv.Start()
	defer srv.Shutdown()
	if !srv.ReadyForConnections(30 * time.Second) {
		t.Fatal("the server does not start")
	}
	nc, err := nats.Connect(srv.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	store, err := newStore(nc)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	const stream = "IM_MESSAGES_00"
	asked := 0
	answer, _ := json.Marshal(map[string]any{"message": map[string]any{"subject": "im.msg.p00.g.a", "seq": 7, "data": []byte("{}")}})
	if _, err := nc.Subscribe(subjects.LeaderRead(stream), func(m *nats.Msg) {
		if asked++; asked > 1 { // the first is lost
			_ = m.Respond(answer)
		}
	}); err != nil {
		t.Fatal(err)
	}
	msg, err := store.lastFromLeader(t.Context(), stream, "im.msg.p00.g.a")
	if err != nil || msg.Sequence != 7 {
		t.Errorf("read %+v, %v", msg, err)
	}
}
