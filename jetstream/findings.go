package jetstream

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// Defect names a way in which what is stored contradicts itself.
type Defect string

// The defects. Those of the log come first.
const (
	DefectForeign  Defect = "foreign"  // a message among entries that is no entry of the conversation
	DefectHole     Defect = "hole"     // entries are not there, and no recall says that they were erased
	DefectOrder    Defect = "order"    // an entry has the seq of an earlier one, or a smaller one, or an earlier time
	DefectCount    Defect = "count"    // the number of messages does not follow from the entry before
	DefectEpoch    Defect = "epoch"    // the newest change of membership or policy does not
	DefectPointers Defect = "pointers" // the back pointers do not lead to the entries before
	DefectPosters  Defect = "posters"  // the newest posts of authors do not follow from the entry before
	DefectSpent    Defect = "spent"    // the ids of erased entries do not
	DefectBody     Defect = "body"     // an entry cannot be read, or says something else than its header
	DefectErased   Defect = "erased"   // a recall says something else about what it erased than the entries around it
	DefectKept     Defect = "kept"     // what a recall erases is still there

	DefectAmends       Defect = "amends"       // what later entries changed in a page is recorded otherwise than the log has it
	DefectConversation Defect = "conversation" // the record of a conversation is missing, or differs from its log
	DefectMember       Defect = "member"       // a membership differs from what the log says
	DefectListing      Defect = "listing"      // the two directions of a membership differ
	DefectMark         Defect = "mark"         // a mark is beyond the newest entry, or its count cannot be
)

// Defects returns all of them.
func Defects() []Defect {
	return []Defect{
		DefectForeign, DefectHole, DefectOrder, DefectCount, DefectEpoch, DefectPointers, DefectPosters, DefectSpent, DefectBody, DefectErased, DefectKept,
		DefectAmends, DefectConversation, DefectMember, DefectListing, DefectMark,
	}
}

// Finding is one defect in one place.
type Finding struct {
	Defect       Defect                `json:"defect"`
	Conversation subjects.Conversation `json:"conversation,omitempty"`
	User         subjects.User         `json:"user,omitempty"`
	Seq          wire.Seq              `json:"seq,omitempty"`
	Message      uint64                `json:"message,omitempty"` // the stream sequence of a message that is no entry, or of the record that contradicts
	Text         string                `json:"text"`
	Unfinished   bool                  `json:"unfinished,omitempty"` // a crash between two writes leaves it, nobody sees it, and the next call that is about it finishes it
}

// String returns the finding as a line for a person.
func (f Finding) String() string {
	text := string(f.Defect)
	if f.Unfinished {
		text += " (unfinished)"
	}
	if f.Conversation != "" {
		text += " " + string(f.Conversation)
	}
	if f.User != "" {
		text += " " + string(f.User)
	}
	if f.Seq > 0 {
		text += fmt.Sprintf(" entry %d", f.Seq)
	}
	if f.Message > 0 {
		text += fmt.Sprintf(" message %d", f.Message)
	}
	return text + ": " + f.Text
}

// place returns the finding without what another look may word otherwise.
func (f Finding) place() Finding {
	f.Text = ""
	return f
}

func sortFindings(all []Finding) {
	slices.SortStableFunc(all, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Conversation, b.Conversation), cmp.Compare(a.Seq, b.Seq), cmp.Compare(a.User, b.User),
			cmp.Compare(a.Message, b.Message), cmp.Compare(a.Defect, b.Defect))
	})
}
