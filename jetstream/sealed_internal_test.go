package jetstream

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// FuzzSealedPages reads what anybody might have put into the bucket. What is believed is written back as the same bytes.
func FuzzSealedPages(f *testing.F) {
	const c, page = subjects.Conversation("g.talk"), 1
	n := node{page: page, before: []uint64{64}}
	var entries [pageSize]json.RawMessage
	for i := range pageSize {
		n.streams = append(n.streams, uint64(100+2*i))
		if i%9 != 4 {
			entries[i] = fmt.Appendf(nil, `{"conversation":"g.talk","seq":%d,"count":1,"kind":"message","from":"ada"}`, firstOf(page)+wire.Seq(i))
		}
	}
	header, data := sealedMsg(n, entries)
	f.Add(header.Get(subjects.HeaderPage), header.Get(subjects.HeaderBack), data)
	f.Add("last=1 sizes=1.2", "page=1.1", []byte("[]"))
	f.Add("last=226 sizes=0.0", header.Get(subjects.HeaderBack), []byte("[,]"))
	f.Fuzz(func(t *testing.T, about, back string, data []byte) {
		h := nats.Header{subjects.HeaderPage: {about}, subjects.HeaderBack: {back}}
		k, err := parseSealed(c, page, &rawMsg{Subject: sealedSubject(c, page), Header: h, Data: data})
		if err != nil {
			return
		}
		b, err := parseBacks(back, lastOf(page))
		if err != nil {
			t.Fatal(err)
		}
		again, bytes := sealedMsg(node{page: page, streams: k.streams[:], before: b.before}, k.entries)
		if again.Get(subjects.HeaderPage) != about || again.Get(subjects.HeaderBack) != back || string(bytes) != string(data) {
			t.Errorf("%q %q %q is believed, and written back as %q %q", about, back, data, again, bytes)
		}
		for i, e := range k.entries {
			if e != nil && !isEntryAt(c, firstOf(page)+wire.Seq(i), e) {
				t.Errorf("entry %d is %q", i, e)
			}
		}
	})
}

func TestMasks(t *testing.T) {
	for _, one := range []struct {
		from, to wire.Seq
		want     uint64
	}{{1, 1, 1}, {1, 64, ^uint64(0)}, {64, 64, 1 << 63}, {65, 66, 3}, {67, 68, 12}} {
		if got := maskOf(one.from, one.to); got != one.want {
			t.Errorf("%d to %d: %b", one.from, one.to, got)
		}
	}
}
