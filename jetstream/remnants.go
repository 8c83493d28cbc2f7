package jetstream

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// remnant is what stays of an entry that a recall erases: all but its body. The recall carries it in Confab-Erased, so that the log alone
// tells what was there, and IM_AMENDS holds it for readers.
type remnant struct {
	Seq      wire.Seq       `json:"seq"`
	Count    uint64         `json:"count"`
	Kind     wire.EntryKind `json:"kind"`
	From     subjects.User  `json:"from"`
	At       wire.Time      `json:"at"`
	ClientID string         `json:"client_id,omitempty"`
	Target   wire.Seq       `json:"target,omitempty"`
	ReplyTo  wire.Seq       `json:"reply_to,omitempty"`
	Stream   uint64         `json:"stream"`         // where it was
	Back     string         `json:"back,omitempty"` // of the last entry of a page, over which older pages are reached
}

var errRemnants = errors.New("the remains of erased entries are not what a recall carries")

// remains returns the remnant of a stored entry.
func (e *logEntry) remains() (remnant, error) {
	entry, err := e.decode()
	if err != nil {
		return remnant{}, err
	}
	r := remnant{
		Seq: e.Seq, Count: e.Count, Kind: e.Kind, From: e.From, At: entry.At,
		ClientID: entry.ClientID, Target: entry.Target, ReplyTo: entry.ReplyTo, Stream: e.stream,
	}
	if e.Seq == lastOf(pageOf(e.Seq)) {
		r.Back = e.header.Get(subjects.HeaderBack)
	}
	return r, nil
}

// entry returns the erased entry as it is read: without its body.
func (r *remnant) entry(c subjects.Conversation) wire.Entry {
	return wire.Entry{
		Conversation: c, Seq: r.Seq, Count: r.Count, Kind: r.Kind, From: r.From, At: r.At,
		ClientID: r.ClientID, Target: r.Target, ReplyTo: r.ReplyTo, Recalled: true,
	}
}

func encodeRemnants(all []remnant) (string, error) {
	if len(all) == 0 {
		return "", nil
	}
	data, err := json.Marshal(all)
	if err != nil {
		return "", fmt.Errorf("write the remains of %d entries: %w", len(all), err)
	}
	return string(data), nil
}

// parseRemnants reads the header Confab-Erased. Unknown fields are ignored, so that a later release may add one.
func parseRemnants(text string) ([]remnant, error) {
	if text == "" {
		return nil, nil
	}
	var all []remnant
	dec := json.NewDecoder(bytes.NewReader([]byte(text)))
	if err := dec.Decode(&all); err != nil {
		return nil, fmt.Errorf("%w: %w", errRemnants, err)
	}
	if len(all) == 0 || dec.More() {
		return nil, errRemnants
	}
	for i := range all {
		r := &all[i]
		if r.Seq == 0 || r.Stream == 0 || r.From == "" || r.Count > uint64(r.Seq) {
			return nil, errRemnants
		}
		if r.Seq != lastOf(pageOf(r.Seq)) {
			if r.Back != "" {
				return nil, errRemnants
			}
		} else if _, err := parseBacks(r.Back, r.Seq); err != nil {
			return nil, fmt.Errorf("%w: %w", errRemnants, err)
		}
	}
	return all, nil
}
