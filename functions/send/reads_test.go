package send

import (
	"testing"

	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/subjects/wire"
)

func TestReadsOfATailTellWhetherAConversationGoesOn(t *testing.T) {
	for _, c := range []struct {
		reads []wire.Seq
		same  bool
	}{{nil, false}, {[]wire.Seq{7}, false}, {[]wire.Seq{7, 7}, true}, {[]wire.Seq{0, 0, 0}, true}, {[]wire.Seq{7, 8}, false}, {[]wire.Seq{7, 7, 9}, false}} {
		var r tailReads
		for _, seq := range c.reads {
			var tail jetstream.Tail
			tail.Seq = seq
			r.note(tail)
		}
		if r.same != c.same {
			t.Errorf("%v: %v", c.reads, r.same)
		}
	}
}
