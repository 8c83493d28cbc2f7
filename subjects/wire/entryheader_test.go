package wire

import (
	"strings"
	"testing"
)

func TestEntryHeaderIsReadAsWritten(t *testing.T) {
	for _, text := range []string{
		"seq=57 count=41 epoch=12 kind=message from=ada",
		"seq=1 count=0 epoch=1 kind=member from=b_0-b",
		"seq=9007199254740991 count=9007199254740991 epoch=0 kind=later from=" + strings.Repeat("a", 63),
	} {
		h, err := ParseEntryHeader(text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
		} else if h.String() != text {
			t.Errorf("%q was written as %q", text, h)
		}
	}
	h, _ := ParseEntryHeader("seq=57 count=41 epoch=12 kind=message from=ada")
	if h != (EntryHeader{Seq: 57, Count: 41, Epoch: 12, Kind: KindMessage, From: "ada"}) {
		t.Errorf("read as %+v", h)
	}
}

func TestEntryHeaderRefusesEverythingElse(t *testing.T) {
	for _, text := range []string{
		"",
		"seq=57",
		"seq=0 count=0 epoch=0 kind=message from=ada",
		"seq=57 count=58 epoch=12 kind=message from=ada",
		"seq=57 count=41 epoch=58 kind=message from=ada",
		"seq=057 count=41 epoch=12 kind=message from=ada",
		"seq=+57 count=41 epoch=12 kind=message from=ada",
		"seq=57  count=41 epoch=12 kind=message from=ada",
		"count=41 seq=57 epoch=12 kind=message from=ada",
		"seq=57 count=41 epoch=12 kind=message from=ada ",
		"seq=57 count=41 epoch=12 kind=message from=ada more=1",
		"seq=57 count=41 epoch=12 kind= from=ada",
		"seq=57 count=41 epoch=12 kind=Message from=ada",
		"seq=57 count=41 epoch=12 kind=message from=>",
		"seq=57 count=41 epoch=12 kind=message from=",
		"seq=9007199254740992 count=41 epoch=12 kind=message from=ada",
		"seq=57 count=41 epoch=12 kind=" + strings.Repeat("a", 200) + " from=ada",
	} {
		if h, err := ParseEntryHeader(text); err == nil {
			t.Errorf("%q was read as %+v", text, h)
		}
	}
}

func FuzzParseEntryHeader(f *testing.F) {
	f.Add("seq=57 count=41 epoch=12 kind=message from=ada")
	f.Add("seq=1 count=0 epoch=1 kind=member from=b")
	f.Fuzz(func(t *testing.T, text string) {
		if h, err := ParseEntryHeader(text); err == nil && h.String() != text {
			t.Fatalf("%q was accepted but is written as %q", text, h)
		}
	})
}

func BenchmarkParseEntryHeader(b *testing.B) {
	for b.Loop() {
		if _, err := ParseEntryHeader("seq=57 count=41 epoch=12 kind=message from=ada"); err != nil {
			b.Fatal(err)
		}
	}
}
