package jetstream

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/confab-im/confab/subjects/wire"
)

// FuzzPlainMembers compares the quick reading of memberships with the decoder's.
func FuzzPlainMembers(f *testing.F) {
	muted := wire.At(time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC))
	for _, m := range []Member{
		{Conversation: "g.team", User: "ada", Role: wire.RoleOwner, JoinedSeq: 7},
		{Conversation: "d.ada.bob", User: "ada"},
		{Conversation: "g.team", User: "ada", Role: `a"\`, JoinedSeq: 7},
		{Conversation: "g.team", User: "ada", Role: wire.RoleMember, JoinedSeq: 1, Muted: &muted},
	} {
		data, err := json.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		if got, ok := plainMember(data); ok != (m.Muted == nil && isPlain([]byte(m.Role))) || ok && !reflect.DeepEqual(got, m) {
			f.Errorf("%s: %+v, %v", data, got, ok)
		}
		f.Add(data)
	}
	f.Add([]byte(`{"conversation":"g.team","user":"ada","role":"","joined_seq":7}`))
	f.Add([]byte(`{"conversation":"g.team","user":"ada","joined_seq":07}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, ok := plainMember(data)
		if !ok {
			return
		}
		var want Member
		if err := json.Unmarshal(data, &want); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: read as %+v, the decoder says %+v, %v", data, got, want, err)
		}
	})
}
