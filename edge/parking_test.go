package edge

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/confab-im/confab/subjects/wire"
)

// bothWays runs a test with sockets that are parked where the system can, and with those that keep a reader each.
func bothWays(t *testing.T, test func(t *testing.T, keep func(*Config))) {
	for _, keep := range []bool{false, true} {
		t.Run(fmt.Sprintf("keeping readers is %t", keep), func(t *testing.T) {
			t.Parallel()
			test(t, func(c *Config) { c.KeepReaders = keep })
		})
	}
}

// resting reports whether nobody reads from a socket or writes to it.
func (s *socket) resting() bool {
	s.line.mu.Lock()
	defer s.line.mu.Unlock()
	s.out.mu.Lock()
	defer s.out.mu.Unlock()
	return !s.line.busy && !s.out.writing
}

func TestAMessageMayComeInAnyPieces(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, keep func(*Config)) {
		w := newWorld(t)
		r := w.edge(keep, func(c *Config) { c.Limits = None() })
		for _, size := range []int{1, 3, 700, 4096, 5000, 20_000} {
			conn := r.rawConn(t)
			rawHello(t, w, conn, "ada")
			var stream, want []byte
			for i := range 6 {
				id := fmt.Sprintf(`"%d-%s"`, i, strings.Repeat("x", i*11))
				text := []byte(`{"id":` + id + `,"call":"ping"}` + strings.Repeat(" ", i*i*i*40))
				stream = append(stream, rawFrame(textFrame, text[:5])...)
				stream = append(stream, rawFrame(fin|pingFrame, []byte("now"))...)
				stream = append(stream, rawFrame(0, nil)...)
				stream = append(stream, rawFrame(fin, text[5:])...)
				stream = append(stream, rawFrame(fin|pongFrame, nil)...)
				want = append(want, `{"id":`+id+`,"ok":{}}`+"\n"...)
			}
			go func() {
				for i := 0; i < len(stream); i += size {
					_, _ = conn.Write(stream[i:min(i+size, len(stream))])
				}
			}()
			var got []byte
			for len(got) < len(want) {
				kind, payload := serverFrame(t, conn)
				if kind == textFrame {
					got = append(got, payload...)
				}
			}
			if !bytes.Equal(got, want) {
				t.Errorf("in pieces of %d the answer is %q", size, got)
			}
		}
	})
}

// serverFrame reads one frame of the server.
func serverFrame(t testing.TB, conn net.Conn) (kind byte, payload []byte) {
	t.Helper()
	read := func(n int) []byte {
		p := make([]byte, n)
		if _, err := io.ReadFull(conn, p); err != nil {
			t.Fatal(err)
		}
		return p
	}
	head := read(2)
	n := int(head[1])
	switch n {
	case 126:
		n = int(binary.BigEndian.Uint16(read(2)))
	case 127:
		n = int(binary.BigEndian.Uint64(read(8)))
	}
	return head[0] & 0xf, read(n)
}

func TestAConnectionAtRestIsNobodysWork(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.edge(func(c *Config) { c.Limits = None() })
	if r.poller == nil {
		return // each connection keeps a reader here
	}
	var conns []net.Conn
	for i := range 20 {
		conn := r.rawConn(t)
		rawHello(t, w, conn, fmt.Sprintf("user-%d", i))
		conns = append(conns, conn)
	}
	resting := func() bool {
		return !slices.ContainsFunc(r.sockets.all(), func(s *socket) bool { return !s.resting() })
	}
	eventually(t, "all rest", resting)
	for i, conn := range conns {
		_, _ = conn.Write(rawFrame(fin|pongFrame, nil)) // which leaves nothing to be answered
		_, _ = conn.Write(rawFrame(fin|textFrame, []byte(`{"id":1,"call":"ping"}`)))
		if kind, answer := serverFrame(t, conn); kind != textFrame || string(answer) != `{"id":1,"ok":{}}`+"\n" {
			t.Errorf("answered %q", answer)
		}
		switch i % 3 {
		case 0:
			_ = conn.Close()
		case 1:
			_, _ = conn.Write(rawFrame(fin|closeFrame8, []byte{3, 232, 'b', 'y', 'e'}))
			if kind, answer := serverFrame(t, conn); kind != closeFrame8 || !bytes.Equal(answer, []byte{3, 232}) {
				t.Errorf("a close frame is answered %x %q", kind, answer)
			}
		}
	}
	eventually(t, "those that have gone are forgotten", func() bool { return r.count.Load() == 6 && len(r.sockets.all()) == 6 })
	eventually(t, "the others rest", resting)
	for _, s := range r.sockets.all() {
		s.close(wire.CloseResync)
	}
	for i, conn := range conns {
		if i%3 != 2 {
			continue
		}
		if code := closeCode(t, conn); code != int(wire.CloseResync) {
			t.Errorf("closed with %d", code)
		}
	}
	eventually(t, "all end, although they do not answer", func() bool { return r.count.Load() == 0 && len(r.sockets.all()) == 0 })
}

func TestWhatAClientReadsLateComesWhole(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, keep func(*Config)) {
		w := newWorld(t)
		r := w.edge(keep, func(c *Config) { c.Limits = None(); c.Limits.Write = 2 * patience })
		w.add("g.one", "ada")
		conn := r.rawConn(t)
		if err := conn.(*net.TCPConn).SetReadBuffer(64 << 10); err != nil {
			t.Fatal(err)
		}
		rawHello(t, w, conn, "ada")
		const entries = 600
		big := strings.Repeat("x", 12_000) // in all more than the system keeps for a connection
		for range entries {
			w.say("g.one", "ada", big)
		}
		s := r.users.find("ada").list()[0]
		eventually(t, "the writer waits", func() bool {
			s.out.mu.Lock()
			defer s.out.mu.Unlock()
			return s.out.count > 0 && s.out.writing
		})
		s.ping()
		pinged := false
		_ = conn.SetDeadline(time.Now().Add(2 * patience)) // to say all that took its time
		for want := wire.Seq(2); want <= entries+1; {
			kind, payload := serverFrame(t, conn)
			if kind == pingFrame {
				pinged = true
				continue
			}
			var event struct{ Data wire.Entry }
			if err := json.Unmarshal(payload, &event); err != nil || event.Data.Seq != want {
				t.Fatalf("entry %d came, want %d: %v", event.Data.Seq, want, err)
			}
			want++
		}
		eventually(t, "nothing waits any more", func() bool { return r.queued.Load() == 0 })
		if !pinged {
			if kind, _ := serverFrame(t, conn); kind != pingFrame {
				t.Errorf("a frame of kind %x came instead of the ping", kind)
			}
		}
	})
}

// TestConnectionsComeAndGoUnderLoad is for the race detector: descriptors are used again at once while entries go to their owners.
func TestConnectionsComeAndGoUnderLoad(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.edge(func(c *Config) { c.Limits = None() })
	const users = 8
	for i := range users {
		w.add("g.one", fmt.Sprintf("user-%d", i))
	}
	stays := r.connect(t, w, "user-0", "stays")
	var wg sync.WaitGroup
	for i := range users {
		wg.Go(func() {
			for n := range 15 {
				c := r.connect(t, w, fmt.Sprintf("user-%d", i), "comes")
				if n%2 == 0 {
					_ = c.ws.NetConn().(*net.TCPConn).SetLinger(0) // it ends with a reset
				}
				for range n % 4 {
					c.begin("echo.say", wire.Empty{})
				}
				c.close()
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	last := wire.Seq(users)
	for busy := true; busy; {
		select {
		case <-done:
			busy = false
		default:
		}
		last = w.say("g.one", "user-0", "hello")
		for stays.entry("g.one").Seq != last {
		}
	}
	eventually(t, "one is left", func() bool { return r.count.Load() == 1 && len(r.sockets.all()) == 1 })
	if _, err := stays.call("ping", wire.Empty{}); err != nil {
		t.Error(err)
	}
}
