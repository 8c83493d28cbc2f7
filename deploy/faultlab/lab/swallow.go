package lab

import (
	"bytes"
	"strconv"
	"sync"
)

// swallows is which message on the links between servers and edges gets lost: the next one under a subject, once.
type swallows struct {
	mu      sync.Mutex
	subject string // "" = none
	done    chan struct{}
}

// next has the next message under a subject swallowed, and returns what is closed when that has happened.
func (s *swallows) next(subject string) <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.subject, s.done = subject, make(chan struct{})
	return s.done
}

// never takes next back.
func (s *swallows) never() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.subject = ""
}

// takes reports whether a message is the one.
func (s *swallows) takes(subject []byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.subject == "" || string(subject) != s.subject {
		return false
	}
	s.subject = ""
	close(s.done)
	return true
}

func (s *swallows) filter() filter { return &frames{swallows: s} }

// frames goes through what a NATS server says to one client: lines, and behind some of them as many bytes as they name.
type frames struct {
	swallows *swallows
	line     []byte // the begin of a line whose end has not come
	rest     int    // bytes of a message that are still to come
	drop     bool   // they are swallowed
}

// pass returns what of data is to be passed on now.
func (f *frames) pass(data []byte) []byte {
	var out []byte
	for len(data) > 0 {
		if f.rest > 0 {
			n := min(f.rest, len(data))
			if !f.drop {
				out = append(out, data[:n]...)
			}
			data, f.rest = data[n:], f.rest-n
			continue
		}
		end := bytes.IndexByte(data, '\n') + 1
		if end == 0 {
			f.line = append(f.line, data...)
			break
		}
		f.line = append(f.line, data[:end]...)
		data = data[end:]
		f.begin()
		if !f.drop || f.rest == 0 {
			out = append(out, f.line...)
		}
		f.line = f.line[:0]
	}
	return out
}

// begin reads a whole line, and decides about the message behind it.
func (f *frames) begin() {
	f.drop = false
	words := bytes.Fields(f.line)
	if len(words) < 4 || string(words[0]) != "MSG" && string(words[0]) != "HMSG" {
		return
	}
	size, err := strconv.Atoi(string(words[len(words)-1]))
	if err != nil {
		return
	}
	f.rest = size + len("\r\n")
	f.drop = f.swallows.takes(words[1])
}
