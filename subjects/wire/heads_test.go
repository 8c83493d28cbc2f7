package wire

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/confab-im/confab/subjects"
)

// told returns what EachHead and its quick reading say of an answer.
func told(t *testing.T, answer []byte) (all []string, quickly bool) {
	t.Helper()
	tell := func(c subjects.Conversation, seq Seq) { all = append(all, fmt.Sprint(c, " ", seq)) }
	if quickly = scanHeads(answer, tell); !quickly {
		all = nil
	}
	quick := all
	all = nil
	if err := EachHead(answer, tell); err != nil {
		t.Errorf("%s: %v", answer, err)
	}
	if quickly && !slices.Equal(quick, all) {
		t.Errorf("%s: read as %q, and quickly as %q", answer, all, quick)
	}
	return all, quickly
}

// FuzzHeads writes a list with hostile words in it, compares it with what the library writes, and reads it.
func FuzzHeads(f *testing.F) {
	f.Add("Title", `{"text":"hi"}`, uint64(2), "member", true)
	f.Add(`a "b" \`, `{"text":"},{\"conversation\":\"d.ada.eve\",\"kind\":\"direct\",\"title\":\"\",\"head\":{\"seq\":9"}`, uint64(1), "own<er", false)
	f.Add("Grüße\u2028\x00", `{"a":[[{}],"\\","\\\"]"]}`, uint64(MaxSeq), "", true)
	f.Add("\xff", `{}`, uint64(0), "", false)
	f.Fuzz(func(t *testing.T, title, body string, seq uint64, role string, more bool) {
		var entry bytes.Buffer
		if json.Compact(&entry, []byte(`{"body":`+body+`}`)) != nil || seq > uint64(MaxSeq) {
			return
		}
		heads := Heads{Conversations: []ConversationHead{
			{Conversation: "d.ada.bob", Kind: subjects.KindDirect, Title: title, Head: Head{Seq: Seq(seq), Count: seq, Entry: entry.Bytes()}, Role: Role(role)},
			{Conversation: "g.team", Kind: subjects.KindGroup, Head: Head{Seq: 7, Count: 5}, Read: Mark{Seq: 3, Count: 2}, Unread: 3},
		}}
		if more {
			heads.Next = "g.team"
		}
		answer := AppendHeads(nil, &heads)
		if want, err := Marshal(heads); err != nil || !bytes.Equal(answer, want) {
			t.Fatalf("written as %s, want %s, %v", answer, want, err)
		}
		of := HeadsOf{Users: map[subjects.User]Heads{"bob": heads, "ada": {Conversations: []ConversationHead{}}}}
		if want, err := Marshal(of); err != nil || !bytes.Equal(AppendHeadsOf(nil, &of), want) {
			t.Fatalf("written as %s, want %s, %v", AppendHeadsOf(nil, &of), want, err)
		}
		all, quickly := told(t, answer)
		if want := []string{fmt.Sprint("d.ada.bob ", seq), "g.team 7"}; !quickly || !slices.Equal(all, want) {
			t.Errorf("%s: read as %q, quickly: %v", answer, all, quickly)
		}
	})
}

func TestHeadsOfAnotherFormAreReadAsWell(t *testing.T) {
	for answer, want := range map[string]string{
		`{"conversations":[]}`: "true",
		`{"next":"g.a","conversations":[{"head":{"count":1,"seq":4},"conversation":"g.team"}]}`:                                 "false g.team 4",
		`{"conversations": [{"conversation":"g.team","kind":"group","title":"","head":{"seq":4}}]}`:                             "false g.team 4",
		`{"conversations":[{"conversation":"g.team","kind":"group","title":"","head":{"seq":4}},{"conversation":"g.b"}]}`:       "false g.team 4 g.team 4 g.b 0",
		`{"conversations":[{"conversation":"g.team","kind":"group","title":"\"","new":[1],"head":{"seq":5}}]}`:                  "false g.team 5",
		`{"conversations":[{"conversation":"g.team","kind":"group","title":"","head":{"seq":5},"new":{"a":["}"]}}],"new":"\""}`: "true g.team 5",
	} {
		all, quickly := told(t, []byte(answer))
		if got := strings.Join(append([]string{fmt.Sprint(quickly)}, all...), " "); got != want {
			t.Errorf("%s: %s, want %s", answer, got, want)
		}
	}
	for _, broken := range []string{``, `{"conversations":[`, `{"conversations":[{"conversation":"g.team","kind":"group","title":"`, `{"conversations":[{"conversation":"G","kind":"group","title":"","head":{"seq":5}}]}`} {
		if err := EachHead([]byte(broken), func(subjects.Conversation, Seq) {}); err == nil {
			t.Errorf("%s was read", broken)
		}
	}
}

func BenchmarkHeads(b *testing.B) {
	var heads Heads
	for i := range 200 {
		c := subjects.Conversation(fmt.Sprintf("d.ada.user-%03d", i))
		entry := fmt.Sprintf(`{"conversation":"%s","seq":4,"count":4,"kind":"message","from":"ada","at":"2026-11-20T15:04:05.123Z","client_id":"0194","body":{"text":"%s"}}`, c, strings.Repeat("x", 256))
		heads.Conversations = append(heads.Conversations, ConversationHead{Conversation: c, Kind: subjects.KindDirect, Head: Head{Seq: 4, Count: 4, Entry: json.RawMessage(entry)}, Role: RoleMember})
	}
	answer := AppendHeads(nil, &heads)
	b.Run("write", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			AppendHeads(make([]byte, 0, len(answer)), &heads)
		}
	})
	b.Run("read", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := EachHead(answer, func(subjects.Conversation, Seq) {}); err != nil {
				b.Fatal(err)
			}
		}
	})
}
