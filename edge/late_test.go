package edge

import (
	"encoding/json"
	"testing"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// Where a conversation stands is not known when two members come, and one of them is removed before it is: the entry that says so is never delivered.
func TestWhoIsRemovedBeforeAConversationIsPlacedGetsNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const group = subjects.Conversation("g.one")
	w.add(string(group), "ada")
	w.add(string(group), "bob")
	setMute := func(mute bool) { w.mu.Lock(); defer w.mu.Unlock(); w.mute = mute }
	setMute(true)
	r := w.edge()
	ada, bob := r.connect(t, w, "ada", "web"), r.connect(t, w, "bob", "web")
	w.mu.Lock()
	delete(w.members[group], "ada")
	w.appendLocked(group, wire.KindMember, "ada", "", wire.MemberBody{User: "ada", Change: wire.ChangeRemoved, By: "ada"})
	w.mu.Unlock()
	said := w.say(string(group), "bob", "among us")
	setMute(false)
	var head wire.HeadMoved
	if err := json.Unmarshal(bob.event(wire.EventHead), &head); err != nil || head.Conversation != group || head.Seq != said {
		t.Fatalf("bob is told %+v, %v", head, err)
	}
	bob.expect(string(group), w.say(string(group), "bob", "and this"))
	var change wire.ConversationChange
	if err := json.Unmarshal(ada.event(wire.EventConversation), &change); err != nil || change.Conversation != group || change.Change != wire.ChangeConversationRemoved {
		t.Errorf("ada is told %+v, %v", change, err)
	}
	if _, err := ada.call("echo.say", wire.Empty{}); err != nil {
		t.Fatal(err)
	}
	ada.mu.Lock()
	defer ada.mu.Unlock()
	for _, f := range ada.frames {
		if f.Event == wire.EventEntry || f.Event == wire.EventHead {
			t.Errorf("ada, who was removed, is told %s %s", f.Event, f.Data)
		}
	}
	if u := r.users.find("ada"); r.isMember(u, group) {
		t.Error("ada is still a member here")
	}
}
