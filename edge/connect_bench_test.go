package edge

import (
	"bytes"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/confab-im/confab/subjects"
)

// BenchmarkConnect reports what a connect costs in all: the TCP connection, the upgrade, hello with its token and memberships, its answer, and the
// close, 32 at one time. Client, functions and NATS server are in the same process; the functions only look their answers up.
func BenchmarkConnect(b *testing.B) {
	w := newWorld(b)
	r := w.edge(func(c *Config) { c.Limits = None() })
	type newcomer struct{ hello []byte }
	next := make(chan newcomer, b.N)
	for i := range b.N {
		user := fmt.Sprintf("u%d", i)
		w.mu.Lock()
		w.groups[subjects.User(user)] = subjects.Conversation(fmt.Sprintf("g.g%d", i%100))
		w.mu.Unlock()
		next <- newcomer{fmt.Appendf(nil, `{"id":1,"call":"hello","data":{"token":%q,"device":"web"}}`, w.token(user, time.Hour))}
	}
	close(next)
	done := make(chan struct{})
	before := processorTime()
	b.ResetTimer()
	const workers = 32
	for range workers {
		go func() {
			defer func() { done <- struct{}{} }()
			buffer := make([]byte, 4096)
			for n := range next {
				conn := upgradeByHand(b, r.addr)
				_, _ = conn.Write(rawFrame(fin|textFrame, n.hello))
				if got, err := io.ReadAtLeast(conn, buffer, 20); err != nil || !bytes.Contains(buffer[:got], []byte(`"ok"`)) {
					b.Errorf("hello is answered %q, %v", buffer[:got], err)
				}
				_ = conn.Close()
			}
		}()
	}
	for range workers {
		<-done
	}
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "connects/s")
	b.ReportMetric(float64((processorTime()-before).Microseconds())/float64(b.N), "cpu-µs/connect")
}
