package jetstream_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/jetstream/jetstreamtest"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// fixedStart is when the conversations of long begin; their entries are a second apart.
var fixedStart = wire.At(time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC))

// long returns a conversation of n messages, the one with seq s at fixedStart plus s seconds.
func long(t testing.TB, s *jetstream.Store, c subjects.Conversation, n int) *writer {
	t.Helper()
	w := newWriter(t, s, c)
	drafts := make([]jetstream.Draft, n)
	for i := range drafts {
		drafts[i] = message("ada", fmt.Sprint("message ", i+1))
		drafts[i].At = second(i + 1)
	}
	var err error
	if w.tail, err = s.AppendAll(t.Context(), c, w.tail, drafts); err != nil {
		t.Fatal(err)
	}
	return w
}

func second(n int) wire.Time { return wire.At(fixedStart.Add(time.Duration(n) * time.Second)) }

func pointer[T any](v T) *T { return &v }

func TestPagesOfTheVisibleRange(t *testing.T) {
	const head = 300
	s := jetstreamtest.Start(t).Store(t)
	w := long(t, s, talk, head)
	type ends struct {
		first, last   wire.Seq
		before, after bool
	}
	seq := func(n int) *wire.Seq { return pointer(wire.Seq(n)) }
	for name, c := range map[string]struct {
		q    wire.PageQuery
		from wire.Seq
		want ends
	}{
		"the newest":                          {wire.PageQuery{}, 0, ends{251, 300, true, false}},
		"the newest, all":                     {wire.PageQuery{Limit: 1000}, 101, ends{101, 300, false, false}},
		"at most 200":                         {wire.PageQuery{Limit: 1000}, 0, ends{101, 300, true, false}},
		"the newest of what is visible":       {wire.PageQuery{}, 290, ends{290, 300, false, false}},
		"nothing visible yet":                 {wire.PageQuery{}, 301, ends{}},
		"before one":                          {wire.PageQuery{Before: seq(100), Limit: 10}, 0, ends{90, 99, true, true}},
		"before, to the first":                {wire.PageQuery{Before: seq(5), Limit: 10}, 0, ends{1, 4, false, true}},
		"before, to the first visible":        {wire.PageQuery{Before: seq(100), Limit: 10}, 95, ends{95, 99, false, true}},
		"before the first":                    {wire.PageQuery{Before: seq(1)}, 0, ends{0, 0, false, true}},
		"before zero":                         {wire.PageQuery{Before: seq(0)}, 0, ends{0, 0, false, true}},
		"before the first visible":            {wire.PageQuery{Before: seq(95)}, 95, ends{0, 0, false, true}},
		"before what is beyond":               {wire.PageQuery{Before: pointer(wire.MaxSeq), Limit: 3}, 0, ends{298, 300, true, false}},
		"after one":                           {wire.PageQuery{After: seq(100), Limit: 10}, 0, ends{101, 110, true, true}},
		"after zero":                          {wire.PageQuery{After: seq(0), Limit: 10}, 0, ends{1, 10, false, true}},
		"after zero of what is visible":       {wire.PageQuery{After: seq(0), Limit: 10}, 50, ends{50, 59, false, true}},
		"after, to the head":                  {wire.PageQuery{After: seq(295), Limit: 10}, 0, ends{296, 300, true, false}},
		"after the head":                      {wire.PageQuery{After: seq(300)}, 0, ends{0, 0, true, false}},
		"after what is beyond":                {wire.PageQuery{After: pointer(wire.MaxSeq)}, 0, ends{0, 0, true, false}},
		"around one":                          {wire.PageQuery{Around: seq(100), Limit: 10}, 0, ends{95, 104, true, true}},
		"around one, a single":                {wire.PageQuery{Around: seq(100), Limit: 1}, 0, ends{100, 100, true, true}},
		"around the first":                    {wire.PageQuery{Around: seq(1), Limit: 10}, 0, ends{1, 10, false, true}},
		"around the head":                     {wire.PageQuery{Around: seq(300), Limit: 10}, 0, ends{291, 300, true, false}},
		"around the first visible":            {wire.PageQuery{Around: seq(100), Limit: 10}, 100, ends{100, 109, false, true}},
		"around what is beyond":               {wire.PageQuery{Around: seq(301)}, 0, ends{0, 0, true, false}},
		"around what is not visible":          {wire.PageQuery{Around: seq(99)}, 100, ends{0, 0, false, true}},
		"at a time":                           {wire.PageQuery{Time: pointer(second(64)), Limit: 2}, 0, ends{63, 64, true, true}},
		"at a time between":                   {wire.PageQuery{Time: pointer(wire.At(second(64).Add(time.Millisecond))), Limit: 1}, 0, ends{65, 65, true, true}},
		"at a time before all":                {wire.PageQuery{Time: &fixedStart, Limit: 5}, 0, ends{1, 5, false, true}},
		"at a time before what is visible":    {wire.PageQuery{Time: &fixedStart, Limit: 5}, 20, ends{20, 24, false, true}},
		"at a time after all":                 {wire.PageQuery{Time: pointer(second(301))}, 0, ends{0, 0, true, false}},
		"with a seq that it must know of":     {wire.PageQuery{AtLeast: 300, Limit: 2}, 0, ends{299, 300, true, false}},
		"with a seq that nobody has seen yet": {wire.PageQuery{AtLeast: 400, Limit: 2}, 0, ends{299, 300, true, false}},
	} {
		c.q.Conversation = talk
		p := page(t, s, c.q, c.from)
		if got := (ends{p.First, p.Last, p.MoreBefore, p.MoreAfter}); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
		for i, data := range p.Entries {
			if got, want := string(data), fmt.Sprintf(`"text":"message %d"`, p.First+wire.Seq(i)); !contains(data, want) {
				t.Errorf("%s: entry %d is %s", name, i, got)
			}
		}
		if p.Entries == nil || (p.First != 0 && len(p.Entries) != int(p.Last-p.First)+1) {
			t.Errorf("%s: %d entries", name, len(p.Entries))
		}
	}
	empty := page(t, s, wire.PageQuery{Conversation: "g.nobody"}, 0)
	if data, err := json.Marshal(empty); err != nil || string(data) != `{"entries":[],"first":0,"last":0,"more_before":false,"more_after":false}` {
		t.Errorf("a conversation without entries reads %s, %v", data, err)
	}
	w.checkFill(t)
}

func contains(data []byte, text string) bool {
	return len(data) > 0 && json.Valid(data) && strings.Contains(string(data), text)
}

func (w *writer) checkFill(t *testing.T) {
	t.Helper()
	for _, c := range []struct{ after, limit, n, head int }{{0, 10, 10, 300}, {295, 10, 5, 300}, {300, 10, 0, 300}, {400, 10, 0, 300}, {50, 500, 200, 300}} {
		filled, err := w.store.Fill(t.Context(), w.conv, wire.Seq(c.after), c.limit)
		if err != nil || len(filled.Entries) != c.n || filled.Head != wire.Seq(c.head) {
			t.Errorf("filling after %d: %d entries, head %d, %v", c.after, len(filled.Entries), filled.Head, err)
		}
	}
}

// TestDeepPagesAreNear counts the reads that wait for one another to reach any place of a long log.
func TestDeepPagesAreNear(t *testing.T) {
	t.Parallel()
	const head = 20_000
	s := jetstreamtest.Start(t).Store(t)
	long(t, s, talk, head)
	// 313 pages, 5 levels of at most 3 steps, then the entries; beside the tail.
	const most = 3*5 + 3
	worst := map[string]int{}
	for seq := 1; seq <= head; seq += 331 {
		for name, q := range map[string]wire.PageQuery{
			"before": {Before: pointer(wire.Seq(seq + 1))},
			"after":  {After: pointer(wire.Seq(seq - 1))},
			"around": {Around: pointer(wire.Seq(seq))},
			"at":     {Time: pointer(second(seq))},
		} {
			q.Conversation, q.Limit = talk, 50
			p, rounds, err := s.PageRounds(t.Context(), q, 0)
			if err != nil {
				t.Fatal(err)
			}
			if wire.Seq(seq) < p.First || wire.Seq(seq) > p.Last {
				t.Fatalf("%s %d: the page is %d to %d", name, seq, p.First, p.Last)
			}
			limit := most
			if name == "at" {
				limit += most // the search, then the way to the page
			}
			if worst[name] = max(worst[name], rounds); rounds > limit {
				t.Errorf("%s %d took %d reads one after another, want at most %d", name, seq, rounds, limit)
			}
		}
	}
	t.Logf("reads one after another in %d entries, at most: %v", head, worst)
}
