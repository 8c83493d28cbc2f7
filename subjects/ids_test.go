package subjects

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

// hostile lists strings that must never become part of a subject.
var hostile = map[string]string{
	"star": "*", "tail": ">", "two tokens": "a.b", "empty": "", "space": " ", "inner space": "a b", "tab": "a\tb", "line": "a\r\nb", "nul": "a\x00",
	"system": "$SYS", "api": "$JS.API.STREAM.DELETE.X", "inbox": "_INBOX.x", "zero width": "a\u200bb", "no-break": "a\u00a0b", "accent": "é", "wide": "ａda",
	"kelvin": "\u212a", "invalid utf-8": "a\xff", "65 bytes": strings.Repeat("a", 65), "64 bytes": strings.Repeat("a", 64), "5000 bytes": strings.Repeat("a", 5000),
	"megabyte": strings.Repeat("a", 1<<20), "upper": "Ada", "leading dash": "-a", "leading underscore": "_a", "slash": "a/b", "percent": "a%2e", "quote": `a"b`,
	"leading dot": ".a", "trailing dot": "a.", "dots": "..",
}

func TestHostileStringsAreNoIDs(t *testing.T) {
	parsers := map[string]func(string) error{
		"user":         func(s string) error { _, err := ParseUser(s); return err },
		"device":       func(s string) error { _, err := ParseDevice(s); return err },
		"job":          func(s string) error { _, err := ParseJobID(s); return err },
		"edge":         func(s string) error { _, err := ParseEdge(s); return err },
		"conversation": func(s string) error { _, err := ParseConversation(s); return err },
		"group":        func(s string) error { _, err := ParseConversation("g." + s); return err },
		"channel":      func(s string) error { _, err := ParseConversation("c." + s); return err },
		"first user":   func(s string) error { _, err := ParseConversation("d." + s + ".zzz"); return err },
		"second user":  func(s string) error { _, err := ParseConversation("d.0." + s); return err },
		"new group":    func(s string) error { _, err := NewConversation(KindGroup, s); return err },
		"new channel":  func(s string) error { _, err := NewConversation(KindChannel, s); return err },
		"direct":       func(s string) error { _, err := Direct("ada", User(s)); return err },
		"function":     func(s string) error { _, _, err := ParseCall(s + ".post"); return err },
		"its name":     func(s string) error { _, err := ParseFunction(s); return err },
		"method":       func(s string) error { _, _, err := ParseCall("send." + s); return err },
		"live":         func(s string) error { _, err := ParseLive("im.live." + s); return err },
		"signal":       func(s string) error { _, err := ParseSignal("im.signal.g." + s); return err },
	}
	for what, parse := range parsers {
		for name, s := range hostile {
			if err := parse(s); !errors.Is(err, ErrBadID) {
				t.Errorf("%s from %s: %v", what, name, err)
			} else if len(err.Error()) > 200 || (len(s) > 3 && strings.Contains(err.Error(), s)) {
				t.Errorf("%s from %s: the error repeats the input", what, name)
			}
		}
	}
}

func TestHostileStringsDoNotDecode(t *testing.T) {
	for name, s := range hostile {
		text, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		var ids struct {
			U User
			D Device
			E Edge
			C Conversation
			M map[Conversation]int
		}
		for _, field := range []string{`{"U":`, `{"D":`, `{"E":`, `{"C":`} {
			if err := json.Unmarshal([]byte(field+string(text)+`}`), &ids); !errors.Is(err, ErrBadID) {
				t.Errorf("%s%s: %v", field, name, err)
			}
		}
		if err := json.Unmarshal([]byte(`{"M":{`+string(text)+`:1}}`), &ids); !errors.Is(err, ErrBadID) {
			t.Errorf("as a key: %s: %v", name, err)
		}
	}
}

func TestIDsOfTheAllowedFormPass(t *testing.T) {
	for _, s := range []string{"a", "0", "ada", "a-b_c", "0-", "a_", strings.Repeat("z", MaxIDLength)} {
		if u, err := ParseUser(s); err != nil || string(u) != s {
			t.Errorf("user %q: %v", s, err)
		}
	}
	for _, s := range []string{"g.general", "c.news", "d.ada.bob", "d.a.aa", "d.a-.a_", "d." + strings.Repeat("a", 63) + "." + strings.Repeat("b", 63)} {
		if c, err := ParseConversation(s); err != nil || string(c) != s {
			t.Errorf("conversation %q: %v", s, err)
		}
	}
}

func TestEveryPairHasOneConversation(t *testing.T) {
	for _, s := range []string{"d.bob.ada", "d.ada.ada", "d.ada.ADA", "d.Ada.bob", "d.ada", "d.ada.bob.cy", "d..bob", "d.ada.", "x.a", "g", "g.", "G.a", "g.a.b", "", "d", "D.ada.bob"} {
		if c, err := ParseConversation(s); !errors.Is(err, ErrBadID) {
			t.Errorf("%q was read as %q", s, c)
		}
	}
	ab, err1 := Direct("ada", "bob")
	ba, err2 := Direct("bob", "ada")
	if err1 != nil || err2 != nil || ab != ba || ab != "d.ada.bob" {
		t.Errorf("%q and %q (%v, %v)", ab, ba, err1, err2)
	}
	if _, err := Direct("ada", "ada"); !errors.Is(err, ErrBadID) {
		t.Errorf("a conversation with oneself: %v", err)
	}
	if peer, ok := ab.Peer("bob"); !ok || peer != "ada" {
		t.Errorf("peer of bob is %q", peer)
	}
	if _, ok := ab.Peer("eve"); ok {
		t.Error("eve has a peer in a conversation of others")
	}
	if _, _, ok := Conversation("g.a").Pair(); ok {
		t.Error("a group has a pair")
	}
	for c, kind := range map[Conversation]Kind{ab: KindDirect, "g.d": KindGroup, "c.d": KindChannel} {
		if c.Kind() != kind {
			t.Errorf("%s is a %s", c, c.Kind())
		}
	}
}

func TestCallsAreTwoNames(t *testing.T) {
	f, m, err := ParseCall("send.post")
	if err != nil || f != "send" || m != "post" {
		t.Errorf("%q %q %v", f, m, err)
	}
	for _, s := range []string{"send", "send.", ".post", "send.post.x", "send_.post", "0send.post", "Send.post", strings.Repeat("a", 33) + ".post", "send.*", "send.>"} {
		if _, _, err := ParseCall(s); !errors.Is(err, ErrBadID) {
			t.Errorf("%q: %v", s, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range hostile {
		if len(s) < 100 {
			f.Add(s)
		}
	}
	f.Add("d.ada.bob")
	f.Add("g.general")
	f.Add("send.post")
	f.Fuzz(func(t *testing.T, s string) {
		if c, err := ParseConversation(s); err == nil {
			tokens := strings.Count(s, ".") + 1
			if string(c) != s || strings.ContainsAny(s, "*> \t\r\n\x00$") || (tokens != 2) != (c.Kind() == KindDirect) {
				t.Fatalf("%q was accepted", s)
			}
			if back, err := ParseLive(Live(c)); err != nil || back != c {
				t.Fatalf("%q came back as %q: %v", c, back, err)
			}
			if a, b, ok := c.Pair(); ok {
				if again, err := Direct(b, a); err != nil || again != c {
					t.Fatalf("%q has another form %q", c, again)
				}
			}
			if p := c.Partition(); p < 0 || p >= Partitions {
				t.Fatalf("%q is in partition %d", c, p)
			}
		}
		if u, err := ParseUser(s); err == nil && (len(s) > MaxIDLength || strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" || string(u) != s) {
			t.Fatalf("%q was accepted as a user", s)
		}
		if fn, m, err := ParseCall(s); err == nil && RPC(fn, m) != "im.rpc."+s {
			t.Fatalf("%q is the subject %q", s, RPC(fn, m))
		}
	})
}
