// Package mutants breaks confab on purpose, in its source, to see whether the fault runs notice: each mutant takes one thing away without which a
// promise does not hold. A checker that passes a mutant proves nothing about the product.
//
// The tree stays as it is: go build is told to read the changed files instead (-overlay). What a mutant changes is given as text, so that a change of
// the product which makes a mutant meaningless fails a test.
package mutants

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/confab-im/confab/deploy/faultlab/check"
)

// Mutant is one thing that is taken away.
type Mutant struct {
	Name   string
	Lacks  string         // what it does not do, a phrase
	Edits  []Edit         // of the product
	Args   []string       // of confab faultlab: the faults that show it
	Caught []check.Defect // one of them at least must be found
}

// Edit replaces a text, which must stand in the file once.
type Edit struct {
	File     string // from the root of the module
	Old, New string
}

// all is every mutant.
var all = []Mutant{
	{
		Name: "stale-membership", Lacks: "decide anew after a change of membership",
		Edits: []Edit{
			{"functions/send/standing.go", "if known, ok := s.decisions.get(at); ok && known.epoch == tail.Epoch {", "if known, ok := s.decisions.get(at); ok {"},
		},
		Args: []string{"--faults", "none", "--beside", "races", "--lasts", "5s"}, Caught: []check.Defect{check.AcceptedRemoved},
	},
	{
		Name: "early-ack", Lacks: "wait for the store before a send is acknowledged",
		Edits: []Edit{{"functions/send/post.go", "	if !known || tail.Seq == 0 {\n		return false\n", "	if true {\n		return false\n"}, {
			"functions/send/append.go", "		appended, err := s.try(ctx, e, tail)\n",
			`		if e.draft.Kind == wire.KindMessage {
			go func() { _, _ = s.try(context.WithoutCancel(ctx), e, tail); s.tails.drop(e.conversation) }()
			return jetstream.Appended{Entry: wire.Entry{Conversation: e.conversation, Seq: tail.Seq + 1, Count: tail.Count + 1, Kind: e.draft.Kind}}, nil
		}
		appended, err := s.try(ctx, e, tail)
`,
		}},
		Args: []string{"--faults", "kill", "--lasts", "10s"}, Caught: []check.Defect{check.Lost, check.LostFirst, check.LostLast, check.Moved},
	},
	{
		Name: "no-dedupe", Lacks: "recognise a send by its client id",
		Edits: []Edit{{"jetstream/spent.go", `if d.ClientID == "" {`, `if d.ClientID != "\x00" {`}},
		Args:  []string{"--faults", "kill", "--lasts", "30s"}, Caught: []check.Defect{check.Twice, check.Disagreed},
	},
	{
		Name: "no-hole-detection", Lacks: "look for what is missing between two entries",
		Edits: []Edit{
			{"edge/client/conversation.go", "	if live != nil && (len(v.ahead) < mostAhead", "	if live != nil {\n		v.deliver(*live)\n		return\n	}\n	if live != nil && (len(v.ahead) < mostAhead"},
			{"edge/fanout.go", "	if c.filling || !c.placed || c.last >= c.target {", "	if c.last < maxHole*maxHole {"},
		},
		Args: []string{"--faults", "cut,kill", "--lasts", "20s"}, Caught: []check.Defect{check.ViewHole},
	},
	{
		Name: "open-history", Lacks: "keep from a member what was said while the user was none",
		Edits: []Edit{{"functions/history/page.go", "seen := view{from: member.JoinedSeq}", "seen := view{from: 1}"}},
		Args:  []string{"--faults", "cut", "--lasts", "10s"}, Caught: []check.Defect{check.Leak},
	},
	{
		Name: "no-head-check", Lacks: "compare the newest entries with the store",
		Edits: []Edit{{"edge/heads.go", "			tails = e.compare(ctx, tails)\n", "			_ = tails\n"}},
		Args:  []string{"--topology", "processes", "--faults", "swallow", "--lasts", "5s"}, Caught: []check.Defect{check.NotQuiet, check.ViewLate, check.ViewBehind},
	},
	{
		Name: "no-resync", Lacks: "look, at an edge and at a client, for what was missed while the connection was away",
		Edits: []Edit{
			{"edge/edge.go", `			e.unsure("reconnect")
`, "			_ = e\n"},
			{"edge/client/connect.go", "			c.see(head.Conversation, head.Head.Seq, nil)\n", ""},
		},
		Args: []string{"--faults", "cut,hole", "--lasts", "20s"}, Caught: []check.Defect{check.NotQuiet, check.ViewLate, check.ViewBehind},
	},
	{
		Name: "lazy-sync", Lacks: "sync what it acknowledges; needs root and mkfs.ext4",
		Edits: []Edit{{"deploy/standalone/server.go", "options.SyncAlways = c.Profile != ProfileFast", "options.SyncAlways = false"}},
		Args:  []string{"--faults", "power-cut", "--lasts", "10s"}, Caught: []check.Defect{check.Lost, check.LostFirst, check.LostLast, check.Moved, check.Altered},
	},
}

// All returns every mutant.
func All() []Mutant { return all }

// Build builds the program of a package with a mutant in it, in the module at root, and writes it to out. It needs a Go toolchain; scratch is an
// empty directory of the caller's.
func (m Mutant) Build(ctx context.Context, root, scratch, out, pkg string) error {
	overlay := struct{ Replace map[string]string }{map[string]string{}}
	changed := map[string][]byte{}
	for _, e := range m.Edits {
		path := filepath.Join(root, filepath.FromSlash(e.File))
		text, ok := changed[path]
		if !ok {
			var err error
			if text, err = os.ReadFile(path); err != nil {
				return err
			}
		}
		if n := bytes.Count(text, []byte(e.Old)); n != 1 {
			return fmt.Errorf("mutant %s: %s has this %d times, not once: %s", m.Name, e.File, n, e.Old)
		}
		changed[path] = bytes.Replace(text, []byte(e.Old), []byte(e.New), 1)
	}
	for path, text := range changed {
		file := filepath.Join(scratch, fmt.Sprintf("%d.go", len(overlay.Replace)))
		if err := os.WriteFile(file, text, 0o600); err != nil {
			return err
		}
		overlay.Replace[path] = file
	}
	data, _ := json.Marshal(overlay) // strings always encode
	file := filepath.Join(scratch, "overlay.json")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		return err
	}
	build := exec.CommandContext(ctx, "go", "build", "-overlay", file, "-tags", "nomsgpack", "-o", out, pkg)
	build.Dir = root
	if said, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build mutant %s: %w\n%s", m.Name, err, said)
	}
	return nil
}
