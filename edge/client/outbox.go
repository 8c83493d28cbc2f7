package client

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// MaxDrafts is the largest number of messages that may wait to be sent; beyond it, sends fail with ErrOutboxFull.
const MaxDrafts = 4096

// Draft is a message, edit, recall or reaction on its way to the server.
type Draft struct {
	ClientID     string                `json:"client_id"`
	Minted       bool                  `json:"minted,omitempty"` // the client chose the id, and may choose another where the old one is too old
	Call         string                `json:"call"`
	Conversation subjects.Conversation `json:"conversation"`
	Data         json.RawMessage       `json:"data"` // of the call
	At           wire.Time             `json:"at"`   // when it was written
}

// Outbox keeps drafts until the server has said yes or no to each. A client calls it from one goroutine at a time.
type Outbox interface {
	// Load returns the drafts that are kept, in the order in which they were saved.
	Load() ([]Draft, error)
	// Save keeps a draft; when it returns, the draft is as safe as the store can make it.
	Save(Draft) error
	// Replace puts d in the place of the draft with a client id, as one step and as safe as Save.
	Replace(clientID string, d Draft) error
	// Remove forgets the draft with a client id; one that is not kept is no error.
	Remove(clientID string) error
}

// MemoryOutbox keeps drafts for the life of the process. The zero value is empty and ready.
type MemoryOutbox struct {
	mu     sync.Mutex
	drafts []Draft
}

// Load returns the drafts in the order in which they were saved.
func (m *MemoryOutbox) Load() ([]Draft, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.drafts), nil
}

// Save keeps a draft.
func (m *MemoryOutbox) Save(d Draft) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.drafts = append(m.drafts, d)
	return nil
}

// Replace puts d in the place of another draft.
func (m *MemoryOutbox) Replace(clientID string, d Draft) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.drafts = replace(m.drafts, clientID, d)
	return nil
}

// replace puts d in the place of the draft with a client id, or at the end where there is none.
func replace(drafts []Draft, clientID string, d Draft) []Draft {
	if i := slices.IndexFunc(drafts, func(kept Draft) bool { return kept.ClientID == clientID }); i >= 0 {
		drafts[i] = d
		return drafts
	}
	return append(drafts, d)
}

// Remove forgets a draft.
func (m *MemoryOutbox) Remove(clientID string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.drafts = slices.DeleteFunc(m.drafts, func(d Draft) bool { return d.ClientID == clientID })
	return nil
}

// compactAt is the size of an outbox file, in bytes, from which it is rewritten when few of its lines still count.
const compactAt = 1 << 20

// FileOutbox keeps drafts in a file, so that a message survives a crash between Post and the answer. The file is a log of lines, synced at
// each Save; a line that a crash cut short is dropped, for its Save never returned. One process uses a file at a time.
type FileOutbox struct {
	mu     sync.Mutex
	path   string
	file   *os.File
	size   int64
	drafts []Draft
}

// line is one line of the file: a draft, perhaps in the place of another, or the client id of one that is done.
type line struct {
	Save   *Draft `json:"save,omitempty"`
	Over   string `json:"over,omitempty"`
	Remove string `json:"remove,omitempty"`
}

// OpenFileOutbox opens the outbox at path and makes it, readable by the user alone, where there is none.
func OpenFileOutbox(path string) (*FileOutbox, error) {
	f := &FileOutbox{path: path}
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("open outbox: %w", err)
	}
	for text := range bytes.Lines(data) {
		var l line
		if json.Unmarshal(text, &l) != nil {
			continue
		}
		if l.Save != nil {
			f.drafts = replace(f.drafts, l.Over, *l.Save)
		} else {
			f.forget(l.Remove)
		}
	}
	if err := f.rewrite(); err != nil {
		return nil, err
	}
	return f, nil
}

// Load returns the drafts in the order in which they were saved.
func (f *FileOutbox) Load() ([]Draft, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.drafts), nil
}

// Save appends a draft to the file and syncs it.
func (f *FileOutbox) Save(d Draft) error { return f.Replace("", d) }

// Replace appends a draft that takes the place of another, and syncs the file.
func (f *FileOutbox) Replace(clientID string, d Draft) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	before := f.size
	if err := f.append(line{Save: &d, Over: clientID}); err != nil {
		return err
	}
	if err := f.file.Sync(); err != nil {
		f.size = before
		f.cut()
		return fmt.Errorf("sync outbox: %w", err)
	}
	f.drafts = replace(f.drafts, clientID, d)
	return nil
}

// Remove appends that a draft is done. It is not synced: where a crash loses it, the draft is sent again under its client id, which the
// server recognises.
func (f *FileOutbox) Remove(clientID string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.forget(clientID) {
		return nil
	}
	if f.size > compactAt && len(f.drafts) < 16 {
		return f.rewrite()
	}
	return f.append(line{Remove: clientID})
}

// Close closes the file; drafts stay in it.
func (f *FileOutbox) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.file.Close()
}

func (f *FileOutbox) forget(clientID string) bool {
	before := len(f.drafts)
	f.drafts = slices.DeleteFunc(f.drafts, func(d Draft) bool { return d.ClientID == clientID })
	return len(f.drafts) < before
}

func (f *FileOutbox) append(l line) error {
	text, err := wire.Marshal(l)
	if err != nil {
		return fmt.Errorf("encode draft: %w", err)
	}
	if _, err := f.file.WriteAt(append(text, '\n'), f.size); err != nil {
		f.cut()
		return fmt.Errorf("write outbox: %w", err)
	}
	f.size += int64(len(text)) + 1
	return nil
}

// cut removes what a failed write left behind the last whole line.
func (f *FileOutbox) cut() { _ = f.file.Truncate(f.size) }

// rewrite puts the drafts that still count into a new file, and that in the place of the old one.
func (f *FileOutbox) rewrite() error {
	next, err := os.CreateTemp(filepath.Dir(f.path), filepath.Base(f.path)+".*")
	if err != nil {
		return fmt.Errorf("rewrite outbox: %w", err)
	}
	old, size := f.file, f.size
	f.file, f.size = next, 0
	for i := range f.drafts {
		if err = f.append(line{Save: &f.drafts[i]}); err != nil {
			break
		}
	}
	if err == nil {
		err = next.Sync()
	}
	if err == nil {
		err = os.Rename(next.Name(), f.path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(f.path))
	}
	if err != nil {
		f.file, f.size = old, size
		_, _ = next.Close(), os.Remove(next.Name())
		return fmt.Errorf("rewrite outbox: %w", err)
	}
	if old != nil {
		return old.Close()
	}
	return nil
}

// syncDir makes a rename in dir durable. Systems that cannot sync a folder do so by themselves.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, errors.ErrUnsupported) && !errors.Is(err, os.ErrInvalid) && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}
