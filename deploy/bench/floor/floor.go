// Package floor holds the least that does what confab does, as programs of their own: a NATS server with bare streams, and a bare WebSocket relay. What confab bench measures of
// confab it measures of them in the same run, so that a slow moment of the machine hits both. They are no part of confab: they check nobody's token.
package floor

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/gorilla/websocket"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/subjects"
)

// Ready is what a floor's first line begins with; where it listens follows.
const Ready = "floor listens at "

// readyWithin bounds the start of the server.
const readyWithin = time.Minute

// Stream returns the name of a bare stream, and Subject what is published to it; one stands for each partition of messages.
func Stream(partition int) string { return fmt.Sprintf("FLOOR_%02d", partition) }

// Subject returns a subject that a bare stream stores, with one token of the caller's choice, as a conversation is one.
func Subject(partition int, token string) string {
	return fmt.Sprintf("floor.p%02d.%s", partition, token)
}

// Streams runs a NATS server on loopback with as many bare streams as confab has partitions, which syncs as confab does, until ctx ends. Bare means: read directly as those
// of messages are, but with no conditions, no headers, no recognition of repeats and no live copies.
func Streams(ctx context.Context, dir string, syncAlways bool, out io.Writer) error {
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: dir, SyncAlways: syncAlways, NoSigs: true, NoLog: true})
	if err != nil {
		return fmt.Errorf("configure the bare server: %w", err)
	}
	s.Start()
	defer func() { s.Shutdown(); s.WaitForShutdown() }()
	if !s.ReadyForConnections(readyWithin) {
		return fmt.Errorf("the bare server is not ready after %v", readyWithin)
	}
	if err := makeStreams(s); err != nil {
		return err
	}
	fmt.Fprintf(out, "%s%s\n", Ready, s.ClientURL())
	<-ctx.Done()
	return nil
}

// makeStreams makes the bare streams.
func makeStreams(s *server.Server) error {
	nc, err := nats.Connect("", nats.InProcessServer(s))
	if err != nil {
		return err
	}
	defer nc.Close()
	for p := range subjects.Partitions {
		config, err := json.Marshal(map[string]any{
			"name": Stream(p), "subjects": []string{Subject(p, "*")}, "storage": "file", "num_replicas": 1, "retention": "limits", "discard": "new",
			"allow_direct": true,
		})
		if err != nil {
			return err
		}
		answer, err := nc.Request(subjects.CreateStream(Stream(p)), config, readyWithin)
		if err != nil {
			return fmt.Errorf("make a bare stream: %w", err)
		}
		var refusal struct {
			Error *struct {
				Description string `json:"description"`
			} `json:"error"`
		}
		if err := json.Unmarshal(answer.Data, &refusal); err != nil || refusal.Error != nil {
			return fmt.Errorf("make a bare stream: %s", answer.Data)
		}
	}
	return nil
}

// Relay runs a WebSocket server on loopback until ctx ends. A message that one connection sends goes to every connection that asked for the same path, one write each: a goroutine and the library's own
// buffers for every connection, no queue, no order, no bound.
func Relay(ctx context.Context, out io.Writer) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	r := &relay{groups: map[string]*group{}}
	front := &http.Server{Handler: http.HandlerFunc(r.serve), ReadHeaderTimeout: readyWithin}
	ended := make(chan error, 1)
	go func() { ended <- front.Serve(listener) }()
	fmt.Fprintf(out, "%shttp://%s\n", Ready, listener.Addr())
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	_ = front.Close()
	<-ended
	r.close()
	return nil
}

// relay holds the connections by the path that they asked for.
type relay struct {
	upgrader websocket.Upgrader
	serving  sync.WaitGroup
	mu       sync.Mutex // before that of a group
	over     bool
	groups   map[string]*group
}

// group is the connections of one path; one message after another is written to them.
type group struct {
	mu    sync.Mutex
	conns []*websocket.Conn
}

func (r *relay) serve(w http.ResponseWriter, q *http.Request) {
	conn, err := r.upgrader.Upgrade(w, q, nil)
	if err != nil {
		return
	}
	defer func() { _ = conn.Close() }()
	g, ok := r.join(q.URL.Path, conn)
	if !ok {
		return
	}
	defer r.serving.Done()
	for {
		kind, text, err := conn.ReadMessage()
		if err != nil {
			g.leave(conn)
			return
		}
		g.send(kind, text)
	}
}

// join adds a connection to the group of a path, unless the relay ends.
func (r *relay) join(path string, conn *websocket.Conn) (*group, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over {
		return nil, false
	}
	r.serving.Add(1)
	g := r.groups[path]
	if g == nil {
		g = &group{}
		r.groups[path] = g
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.conns = append(g.conns, conn)
	return g, true
}

func (g *group) leave(conn *websocket.Conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i, c := range g.conns {
		if c == conn {
			g.conns[i] = g.conns[len(g.conns)-1]
			g.conns = g.conns[:len(g.conns)-1]
			return
		}
	}
}

func (g *group) send(kind int, text []byte) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, conn := range g.conns {
		_ = conn.WriteMessage(kind, text) // who is gone is found by its own reader
	}
}

// close ends every connection and waits for their goroutines.
func (r *relay) close() {
	r.mu.Lock()
	r.over = true
	for _, g := range r.groups {
		g.mu.Lock()
		for _, conn := range g.conns {
			_ = conn.Close()
		}
		g.mu.Unlock()
	}
	r.mu.Unlock()
	r.serving.Wait()
}
