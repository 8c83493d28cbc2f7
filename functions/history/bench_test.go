package history_test

import (
	"fmt"
	"testing"

	"github.com/confab-im/confab/functions/history"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// BenchmarkRead measures a page of 50 out of 2,000 entries and a list of 100 conversations, from request to answer.
func BenchmarkRead(b *testing.B) {
	w := newWorld(b, "ada", "bob")
	team := w.group("team", "ada")
	for i := range 2000 {
		w.post("ada", team, "message %d", i)
	}
	for i := range 99 {
		w.group(fmt.Sprintf("g%d", i), "ada", "bob")
	}
	pages := map[string]wire.PageQuery{
		"newest page": {Conversation: team},
		"old page":    {Conversation: team, Around: at(300)},
	}
	for name, q := range pages {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if p := w.page("ada", q); len(p.Entries) != wire.DefaultPage {
					b.Fatalf("%d entries", len(p.Entries))
				}
			}
		})
	}
	b.Run("heads of 100", func(b *testing.B) {
		for b.Loop() {
			if all := w.heads("ada"); len(all) != 100 {
				b.Fatalf("%d heads", len(all))
			}
		}
	})
	b.Run("check of 100", func(b *testing.B) {
		seen := map[subjects.Conversation]wire.Seq{}
		for _, h := range w.heads("ada") {
			seen[h.Conversation] = h.Head.Seq
		}
		for b.Loop() {
			ask[wire.HeadsChecked](w, "", history.Name, history.MethodCheck, wire.HeadCheck{Heads: seen})
		}
	})
}
