package wire

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestTablesOfTheProtocolAreInStep compares the tables of codes in PROTOCOL.md with the sets that the programs use.
func TestTablesOfTheProtocolAreInStep(t *testing.T) {
	path := filepath.Join("..", "PROTOCOL.md")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var codes, closes strings.Builder
	codes.WriteString("| code | HTTP | repeat | what happened | what to do |\n| --- | --- | --- | --- | --- |\n")
	for _, info := range Codes {
		repeat := ""
		if info.Unknown {
			repeat = "yes"
		}
		fmt.Fprintf(&codes, "| `%s` | %d | %s | %s | %s |\n", info.Code, info.Status, repeat, info.Meaning, info.Remedy)
	}
	closes.WriteString("| code | meaning | connect again |\n| --- | --- | --- |\n")
	for _, c := range CloseCodes {
		again := "yes"
		if !c.Code.Reconnect() {
			again = "no"
		}
		fmt.Fprintf(&closes, "| %d | %s | %s |\n", c.Code, c.Meaning, again)
	}
	text := between(t, string(data), "codes", codes.String())
	text = between(t, text, "closes", closes.String())
	golden(t, path, []byte(text))
}

// between returns text with what stands between the marks of a name and the next end mark replaced.
func between(t *testing.T, text, name, table string) string {
	t.Helper()
	before, rest, ok := strings.Cut(text, "<!-- "+name+":")
	mark, rest, ok2 := strings.Cut(rest, "-->\n")
	_, after, ok3 := strings.Cut(rest, "<!-- end -->")
	if !ok || !ok2 || !ok3 {
		t.Fatalf("PROTOCOL.md has no marks for %s", name)
	}
	return before + "<!-- " + name + ":" + mark + "-->\n" + table + "<!-- end -->" + after
}

// TestEveryNameIsInTheProtocol looks for names that the text forgot.
func TestEveryNameIsInTheProtocol(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("..", "PROTOCOL.md"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range []Event{EventEntry, EventReceipt, EventPresence, EventSignal, EventConversation, EventHead, EventResync, EventSession, EventDraining} {
		names = append(names, "| `"+string(e)+"` |")
	}
	for _, k := range []EntryKind{KindMessage, KindEdit, KindRecall, KindReaction, KindPin, KindMember, KindPolicy} {
		names = append(names, "`"+string(k)+"`")
	}
	for _, c := range []MemberChange{ChangeJoined, ChangeAdded, ChangeLeft, ChangeRemoved, ChangeBanned, ChangeUnbanned, ChangeRole} {
		names = append(names, "`"+string(c)+"`")
	}
	for _, call := range []string{CallHello, CallPing, CallSignal, CallWatch} {
		names = append(names, "`"+call+"`")
	}
	for _, name := range names {
		if !strings.Contains(string(data), name) {
			t.Errorf("PROTOCOL.md does not mention %s", name)
		}
	}
}
