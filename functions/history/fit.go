package history

import (
	"encoding/json"

	"github.com/confab-im/confab/subjects/wire"
)

// maxAnswer bounds the entries of one answer in bytes. It stays below the max_payload that NATS servers are preset with, 1 MiB, with room for one more
// entry and for what stands around them; two hundred long messages are more than that.
const maxAnswer = 896 << 10

// fit takes entries off a page until it fits into an answer. A page after a seq loses its newest entries, one around a seq or a time the ends that are
// farther from the middle, and any other its oldest; the more_ flags then say that there are more.
func fit(page wire.Page, in *wire.PageQuery) (wire.Page, error) {
	entries := page.Entries
	size := 0
	for _, e := range entries {
		size += len(e) + 1
	}
	if size <= maxAnswer {
		return page, nil
	}
	first, last := 0, len(entries) // what is kept
	middle := middleOf(page, in)
	for size > maxAnswer && last-first > 1 {
		if in.After != nil || (in.Around != nil || in.Time != nil) && last-1-middle >= middle-first {
			last--
			size -= len(entries[last]) + 1
			page.MoreAfter = true
		} else {
			size -= len(entries[first]) + 1
			first++
			page.MoreBefore = true
		}
	}
	page.Entries = entries[first:last]
	var err error
	if page.First, err = seqOf(page.Entries[0]); err != nil {
		return page, err
	}
	page.Last, err = seqOf(page.Entries[len(page.Entries)-1])
	return page, err
}

// middleOf returns the index of the entry that a page is around.
func middleOf(page wire.Page, in *wire.PageQuery) int {
	if in.Around != nil {
		for i, e := range page.Entries {
			if seq, err := seqOf(e); err == nil && seq >= *in.Around {
				return i
			}
		}
	}
	return len(page.Entries) / 2
}

func seqOf(entry json.RawMessage) (wire.Seq, error) {
	var e struct {
		Seq wire.Seq `json:"seq"`
	}
	err := json.Unmarshal(entry, &e)
	return e.Seq, err
}

// fitHeads leaves conversations at the end to the next answer until this one fits.
func fitHeads(heads wire.Heads) wire.Heads {
	size := 0
	for i := range heads.Conversations {
		size += sizeOf(&heads.Conversations[i])
		if size > maxAnswer && i > 0 {
			heads.Conversations = heads.Conversations[:i]
			heads.Next = heads.Conversations[i-1].Conversation
			break
		}
	}
	return heads
}

// sizeOf returns about how many bytes a conversation takes in an answer, rather too many than too few.
func sizeOf(h *wire.ConversationHead) int {
	return len(h.Head.Entry) + len(h.Title) + len(h.Conversation) + 256 // the other fields are short
}

// fitFilled leaves entries at the end to the next answer until this one fits.
func fitFilled(filled wire.Filled) (wire.Filled, error) {
	size := 0
	for i, e := range filled.Entries {
		size += len(e) + 1
		if size > maxAnswer && i > 0 {
			filled.Entries = filled.Entries[:i]
			var err error
			filled.To, err = seqOf(filled.Entries[i-1])
			return filled, err
		}
	}
	return filled, nil
}
