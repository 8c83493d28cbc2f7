package jetstream

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// TestBackPointersLeadEverywhere follows a log of 1,500 pages and walks it from its tail.
func TestBackPointersLeadEverywhere(t *testing.T) {
	const pages = 1500
	var (
		b       backs
		stream  uint64
		streams = []uint64{0} // by seq
		ends    = map[uint64]backs{}
		written int
		longest int
	)
	for seq := wire.Seq(1); seq <= pages*pageSize; seq++ {
		b = b.follow(seq-1, stream)
		stream += 1 + rand.Uint64N(300)
		streams = append(streams, stream)
		if seq == lastOf(pageOf(seq)) {
			ends[pageOf(seq)] = b
		}
		written += len(b.String())
		longest = max(longest, len(b.String()))
		if seq%7 == 0 {
			checkBacks(t, seq, b, streams)
		}
	}
	most := 0
	for target := range uint64(pages) {
		steps, page := 0, uint64(pages-1)
		for ; page > target; steps++ {
			level := 0
			for level+1 < levels(page) && pointee(page, level+1) >= target {
				level++
			}
			if got := ends[page].before[level]; got != streams[lastOf(pointee(page, level))] {
				t.Fatalf("level %d of page %d leads to %d", level, page, got)
			}
			page = pointee(page, level)
		}
		most = max(most, steps)
	}
	if limit := (fanout - 1) * levels(pages); most > limit {
		t.Errorf("%d steps to some page of %d, want at most %d", most, pages, limit)
	}
	t.Logf("at most %d steps over %d pages; back pointers take %d bytes on average, at most %d", most, pages, written/int(pages*pageSize), longest)
}

func checkBacks(t *testing.T, seq wire.Seq, b backs, streams []uint64) {
	t.Helper()
	if want := streams[firstOf(pageOf(seq)):seq]; !slices.Equal(b.page, want) {
		t.Fatalf("entry %d knows of its page %v, want %v", seq, b.page, want)
	}
	read, err := parseBacks(b.String(), seq)
	if err != nil || !slices.Equal(read.page, b.page) || !slices.Equal(read.before, b.before) {
		t.Fatalf("%q of entry %d is read as %+v, %v", b, seq, read, err)
	}
}

func FuzzParseBacks(f *testing.F) {
	f.Add("page=3f9.1.1.2 before=3f8.2k.0", uint64(64*16+5))
	f.Add("before=a", uint64(65))
	f.Add("page=1", uint64(2))
	f.Add("", uint64(1))
	f.Fuzz(func(t *testing.T, text string, seq uint64) {
		if b, err := parseBacks(text, wire.Seq(seq)); err == nil && b.String() != text {
			t.Fatalf("%q of entry %d was accepted but is written as %q", text, seq, b)
		}
	})
}

func FuzzParsePosters(f *testing.F) {
	f.Add("ada=57/41 bob=55/40")
	f.Fuzz(func(t *testing.T, text string) {
		if p, err := parsePosters(text); err == nil && p.String() != text {
			t.Fatalf("%q was accepted but is written as %q", text, p)
		}
	})
}

func FuzzParseSpent(f *testing.F) {
	f.Add("AAAAAAAAAAAAAAAAAAAAAA=57/41/1795187045123")
	f.Fuzz(func(t *testing.T, text string) {
		if s, err := parseSpent(text); err == nil && s.String() != text {
			t.Fatalf("%q was accepted but is written as %q", text, s)
		}
	})
}

func FuzzParseRemnants(f *testing.F) {
	f.Add(`[{"seq":64,"count":1,"kind":"message","from":"ada","at":"2026-11-20T15:04:05.123Z","stream":64,"back":"page=1` + strings.Repeat(".1", 62) + `"}]`)
	f.Add(`[{"seq":5,"count":1,"kind":"edit","from":"ada","at":"2026-11-20T15:04:05.123Z","client_id":"x","target":4,"stream":70}]`)
	f.Fuzz(func(t *testing.T, text string) {
		all, err := parseRemnants(text)
		if err != nil || text == "" {
			return
		}
		written, err := encodeRemnants(all)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parseRemnants(written); err != nil {
			t.Fatalf("%q was accepted but is written as %q: %v", text, written, err)
		}
	})
}

func TestPostersKeepTheLatestAuthors(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		newest := map[subjects.User]wire.Mark{}
		kept := map[subjects.User]wire.Mark{} // those that dropped out
		var p posters
		for i := range rapid.IntRange(1, 120).Draw(t, "posts") {
			user := subjects.User(fmt.Sprint("u", rapid.IntRange(1, 24).Draw(t, "user")))
			mark := wire.Mark{Seq: wire.Seq(2*i + 1), Count: uint64(i + 1)}
			var dropped posters
			p, dropped = p.follow(user, mark)
			newest[user] = mark
			for _, one := range dropped {
				kept[one.user] = one.mark
			}
			read, err := parsePosters(p.String())
			if err != nil || !slices.Equal(read, p) {
				t.Fatalf("%q is read as %v, %v", p, read, err)
			}
		}
		if len(p) > maxPosters {
			t.Fatalf("%d posters", len(p))
		}
		for user, want := range newest {
			mark, ok := p.find(user)
			if !ok {
				mark = kept[user]
			}
			if mark != want {
				t.Fatalf("the newest post of %s is %+v, want %+v", user, mark, want)
			}
		}
	})
}

func TestPostersRefuseEverythingElse(t *testing.T) {
	for _, text := range []string{
		"ada", "ada=", "ada=1", "ada=0/0", "ada=01/1", "ada=1/2", "ada=2/1 ", " ada=2/1", "ada=2/1  bob=1/1", "ada=2/1 ada=1/1",
		"ada=2/1 bob=3/1", "ada=2/1/1", ">=2/1", "ada=9007199254740992/1",
		"a=17/1 b=16/1 c=15/1 d=14/1 e=13/1 f=12/1 g=11/1 h=10/1 i=9/1 j=8/1 k=7/1 l=6/1 m=5/1 n=4/1 o=3/1 p=2/1 q=1/1",
	} {
		if p, err := parsePosters(text); err == nil {
			t.Errorf("%q was read as %v", text, p)
		}
	}
}

func TestBacksRefuseEverythingElse(t *testing.T) {
	for text, seq := range map[string]wire.Seq{
		"":                              2,
		"page=1":                        1,
		"page=0":                        2,
		"page=01":                       2,
		"page=A":                        2,
		"page=1 before=1":               2,
		"page=1.0":                      3,
		"page=5 before=7":               66,
		"page=9  before=7":              66,
		"before=7 page=9":               66,
		"page=9 before=7.1":             66,
		"page=-1":                       2,
		"page=+1":                       2,
		"before=7.8":                    64*4 + 1,
		"before=1y2p0ij32e8e7y2p0ij32e": 65,
	} {
		if b, err := parseBacks(text, seq); err == nil {
			t.Errorf("%q of entry %d was read as %+v", text, seq, b)
		}
	}
}

func TestIdsDoNotMeet(t *testing.T) {
	seen := map[string]string{}
	for _, c := range []subjects.Conversation{"g.a", "g.b"} {
		for _, from := range []subjects.User{"ada", "bob"} {
			for _, kind := range []wire.EntryKind{wire.KindMessage, wire.KindEdit} {
				for _, id := range []string{"1", "2", "1edit"} {
					what := string(c) + " " + string(from) + " " + string(kind) + " " + id
					hash := idOf(c, from, kind, id)
					if other, met := seen[hash]; met || len(hash) != idLength {
						t.Errorf("%s and %s have the id %q", what, other, hash)
					}
					seen[hash] = what
				}
			}
		}
	}
}
