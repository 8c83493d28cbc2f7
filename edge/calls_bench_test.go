package edge

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/confab-im/confab/subjects"
)

// BenchmarkCalls has each of 64 sockets write to a peer, again once the answer and the event have come. The functions behind the edge, which keep a chat in
// memory, the server between them and the clients are in the same process, and cost the same whatever the edge does.
func BenchmarkCalls(b *testing.B) {
	w := newWorld(b)
	r := w.edge(func(c *Config) { c.Limits = None() })
	const pairs = 32
	var conns []net.Conn
	for i := range 2 * pairs {
		conn := upgradeByHand(b, r.addr)
		defer func() { _ = conn.Close() }()
		_, _ = conn.Write(rawFrame(fin|textFrame, fmt.Appendf(nil, `{"call":"hello","data":{"token":%q,"device":"web"}}`, w.token(fmt.Sprintf("u%d", i), time.Hour))))
		conns = append(conns, conn)
	}
	eventually(b, "all are there", func() bool { return r.users.count() == len(conns) })
	frames := make([][]byte, len(conns))
	for i := range frames {
		to, _ := subjects.Direct(subjects.User(fmt.Sprintf("u%d", i)), subjects.User(fmt.Sprintf("u%d", i^1)))
		post, _ := json.Marshal(map[string]any{"conversation": to, "client_id": "01980000-0000-7000-8000-000000000000", "body": text{string(bytes.Repeat([]byte("x"), 100))}})
		frames[i] = rawFrame(fin|textFrame, fmt.Appendf(nil, `{"id":7,"call":"send.post","data":%s}`, post))
	}
	b.ReportAllocs()
	before := processorTime()
	b.ResetTimer()
	var wg sync.WaitGroup
	for i := 0; i < len(conns); i += 2 {
		n := b.N / pairs
		if i/2 < b.N%pairs {
			n++
		}
		wg.Go(func() { converse(conns[i], frames[i], n) })
		wg.Go(func() { _ = listen(conns[i+1], `"event":"entry"`, n) })
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64((processorTime()-before).Microseconds())/float64(b.N), "cpu-µs/op")
}

// converse writes a frame n times, each after the answer and the event of the one before.
func converse(conn net.Conn, frame []byte, n int) {
	buffer := make([]byte, 4096)
	for range n {
		if _, err := conn.Write(frame); err != nil {
			return
		}
		for ok, event := 0, 0; ok == 0 || event == 0; {
			read, err := conn.Read(buffer)
			if err != nil {
				return
			}
			ok += bytes.Count(buffer[:read], []byte(`"ok":{"conversation"`))
			event += bytes.Count(buffer[:read], []byte(`"event":"entry"`))
		}
	}
}

// listen reads until so many of what is looked for have come.
func listen(conn io.Reader, what string, n int) error {
	buffer := make([]byte, 4096)
	for n > 0 {
		read, err := conn.Read(buffer)
		if err != nil {
			return err
		}
		n -= bytes.Count(buffer[:read], []byte(what))
	}
	return nil
}
