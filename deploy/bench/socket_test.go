package bench

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/confab-im/confab/subjects/wire"
)

// readers are the ways in which sockets are read.
var readers = map[string]func() (*loops, error){"loops": newLoops, "a goroutine each": func() (*loops, error) { return nil, nil }}

// dialled is a run whose sockets are read in one of the ways.
func dialled(tb testing.TB, start func() (*loops, error)) *run {
	tb.Helper()
	l, err := start()
	if err != nil {
		tb.Fatal(err)
	}
	if l != nil {
		tb.Cleanup(l.close)
	}
	return &run{loops: l}
}

// peer accepts one connection and has serve talk to it behind the request for a WebSocket, which it leaves to serve to answer.
func peer(t *testing.T, serve func(net.Conn, *bufio.Reader) error) (url string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	t.Cleanup(func() { _ = listener.Close(); <-ended })
	go func() {
		defer close(ended)
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		in := bufio.NewReader(conn)
		if _, err := http.ReadRequest(in); err != nil {
			t.Error(err)
		} else if err := serve(conn, in); err != nil {
			t.Error(err)
		}
	}()
	return "http://" + listener.Addr().String()
}

const switching = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"

// unmasked is a text frame as a server writes it.
func unmasked(text string) string {
	head := begin(nil, len(text))
	head[1] &^= 0x80
	return string(head[:len(head)-4]) + text
}

// TestWhatComesInPiecesIsHeardWhole writes an upgrade and two events a byte at a time, then a long one, and goes.
func TestWhatComesInPiecesIsHeardWhole(t *testing.T) {
	long := strings.Repeat("x", 3*mostRead)
	for name, start := range readers {
		t.Run(name, func(t *testing.T) {
			url := peer(t, func(conn net.Conn, _ *bufio.Reader) error {
				for _, b := range []byte(switching + unmasked(`{"event":"entry","data":1}`+"\n"+`{"event":"entry","data":2}`)) {
					if _, err := conn.Write([]byte{b}); err != nil {
						return err
					}
				}
				_, err := io.WriteString(conn, unmasked(`{"event":"entry","data":"`+long+`"}`)+unmasked(`{"event":"head","data":4}`)+"\x88\x02\x0f\xa0")
				return err
			})
			var got []string
			s, err := dialled(t, start).dial(t.Context(), url, "/", func(event wire.Event, data []byte) { got = append(got, string(event)+string(data)) })
			if err != nil {
				t.Fatal(err)
			}
			<-s.ended
			if s.err != closed(4000) || len(got) != 4 || got[0] != "entry1" || got[1] != "entry2" || got[2] != `entry"`+long+`"` || got[3] != "head4" {
				t.Errorf("heard %d events before %v", len(got), s.err)
			}
			if err := s.call("ping", []byte(`{}`), func([]byte, error) { t.Error("a call that was not made is answered") }); !errors.Is(err, errEnded) {
				t.Errorf("a call after the end: %v", err)
			}
			s.close()
		})
	}
}

// TestWhatTheServerDoesNotReadYetIsKept sends more than the kernel takes to a server that begins to read late.
func TestWhatTheServerDoesNotReadYetIsKept(t *testing.T) {
	const count = 400
	text := bytes.Repeat([]byte("y"), 64<<10)
	for name, start := range readers {
		t.Run(name, func(t *testing.T) {
			sent := make(chan struct{})
			url := peer(t, func(conn net.Conn, in *bufio.Reader) error {
				if _, err := io.WriteString(conn, switching); err != nil {
					return err
				}
				if name == "loops" {
					<-sent // all of it waits in this process or the kernel
				}
				whole := int64(count * (len(begin(nil, len(text))) + len(text)))
				if n, err := io.Copy(io.Discard, io.LimitReader(in, whole)); err != nil || n != whole {
					t.Errorf("%d of %d bytes came: %v", n, whole, err)
				}
				_, err := io.WriteString(conn, "\x88\x00")
				return err
			})
			s, err := dialled(t, start).dial(t.Context(), url, "/", nil)
			if err != nil {
				t.Fatal(err)
			}
			for range count {
				if err := s.send(text); err != nil {
					t.Fatal(err)
				}
			}
			close(sent)
			<-s.ended
			if !errors.Is(s.err, io.EOF) {
				t.Errorf("it ended with %v", s.err)
			}
		})
	}
}

func TestAnEndEndsWhatIsOpen(t *testing.T) {
	for name, start := range readers {
		t.Run(name, func(t *testing.T) {
			r := dialled(t, start)
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			_ = listener.Close()
			if _, err := r.dial(t.Context(), "http://"+listener.Addr().String(), "/", nil); err == nil {
				t.Error("who does not listen accepts")
			}
			refusing := peer(t, func(conn net.Conn, _ *bufio.Reader) error {
				_, err := io.WriteString(conn, "HTTP/1.1 403 Forbidden\r\n\r\n")
				return err
			})
			if _, err := r.dial(t.Context(), refusing, "/", nil); err == nil || !strings.Contains(err.Error(), "403 Forbidden") {
				t.Errorf("a refusal reads as %v", err)
			}
			silent := peer(t, func(conn net.Conn, in *bufio.Reader) error {
				if _, err := io.WriteString(conn, switching); err != nil {
					return err
				}
				_, _ = io.Copy(io.Discard, in)
				return nil
			})
			s, err := r.dial(t.Context(), silent, "/", nil)
			if err != nil {
				t.Fatal(err)
			}
			answered := make(chan error, 3)
			for range 3 {
				if err := s.call("ping", []byte(`{}`), func(_ []byte, err error) { answered <- err }); err != nil {
					t.Fatal(err)
				}
			}
			s.close()
			for range 3 {
				select {
				case err := <-answered:
					if !errors.Is(err, errEnded) {
						t.Errorf("an open call ends with %v", err)
					}
				case <-time.After(30 * time.Second):
					t.Fatal("an open call has no end")
				}
			}
			s.close() // may be done twice
		})
	}
}

func TestOpenCallsAreFoundInAnyOrder(t *testing.T) {
	var c openCalls
	got := map[uint64]int{}
	for id := uint64(1); id <= 1000; id++ {
		c.put(id, func([]byte, error) { got[id]++ })
		if id%7 != 0 && id > 3 {
			if answer := c.take(id - 3); answer != nil {
				answer(nil, nil)
			}
		}
	}
	if c.take(0) != nil || c.take(1001) != nil || c.take(2) != nil {
		t.Error("a call that does not wait is found")
	}
	c.each(func(answer answer) { answer(nil, nil) })
	for id := uint64(1); id <= 1000; id++ {
		if got[id] != 1 {
			t.Fatalf("call %d was answered %d times", id, got[id])
		}
	}
}
