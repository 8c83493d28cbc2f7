package supervisor

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"
)

func TestOutputOfAChildIsPassedOn(t *testing.T) {
	var log bytes.Buffer
	l := &lines{log: slog.New(slog.NewTextHandler(&log, nil)).With("unit", "echo-1"), function: "echo"}
	written := strings.Join([]string{
		`{"time":"2026-11-20T15:04:05.123Z","level":"WARN","msg":"disconnected from nats","err":"EOF","took":1500000}`,
		`{"time":"2026-11-20T15:04:05.123Z","level":"DEBUG","msg":"not wanted"}`,
		`{"level":"INFO","msg":"of another","function":"other"}`,
		`plain text`,
		``,
		`{"no":"record"}`,
		`panic: it broke [recovered]`,
		`goroutine 1 [running]:`,
		`main.main()`,
	}, "\r\n")
	for _, piece := range bytes.SplitAfter([]byte(written), []byte("e")) {
		if n, err := l.Write(piece); n != len(piece) || err != nil {
			t.Fatalf("%d bytes of %d, %v", n, len(piece), err)
		}
	}
	l.flush()
	got := log.String()
	for _, want := range []string{
		`time=2026-11-20T15:04:05.123Z level=WARN msg="disconnected from nats" unit=echo-1 function=echo err=EOF took=1.5ms`,
		`level=INFO msg="of another" unit=echo-1 function=other`,
		`msg="output of an instance" unit=echo-1 function=echo text="plain text"`,
		`text=main.main()`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the log lacks %s", want)
		}
	}
	if strings.Contains(got, "not wanted") {
		t.Error("what is beneath the level is logged")
	}
	if reason := l.reason(); reason != "panic: it broke [recovered]" {
		t.Errorf("it is taken to have ended because of %q", reason)
	}
	if t.Failed() {
		t.Log(got)
	}
}

func FuzzLines(f *testing.F) {
	f.Add([]byte("{\"level\":\"ERROR\",\"msg\":\"x\",\"err\":\"y\"}\nplain\n"), 3)
	f.Add(bytes.Repeat([]byte("x"), 3*maxLine), 1000)
	f.Add([]byte("panic: \xff\n"), 1)
	f.Fuzz(func(t *testing.T, data []byte, size int) {
		l := &lines{log: slog.New(slog.DiscardHandler), function: "echo"}
		reader := bytes.NewReader(data)
		piece := make([]byte, 1+uint(size)%4096)
		for {
			n, err := iotest.DataErrReader(reader).Read(piece)
			if written, failed := l.Write(piece[:n]); written != n || failed != nil {
				t.Fatalf("%d of %d bytes, %v", written, n, failed)
			}
			if err != nil {
				break
			}
		}
		l.flush()
		if len(l.partial) > maxLine || len(l.reason()) > maxReason || !utf8.ValidString(l.reason()) {
			t.Errorf("%d bytes are kept, and the reason %q", len(l.partial), l.reason())
		}
	})
}
