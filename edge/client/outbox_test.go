package client

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/confab-im/confab/subjects/wire"
)

func draftOf(id string) Draft {
	return Draft{ClientID: id, Call: "send.post", Conversation: "g.a", Data: json.RawMessage(`{"client_id":"` + id + `"}`)}
}

func ids(t *testing.T, o Outbox) (ids []string) {
	t.Helper()
	drafts, err := o.Load()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range drafts {
		ids = append(ids, d.ClientID)
	}
	return ids
}

func TestOutboxesKeepDraftsInOrder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox")
	file, err := OpenFileOutbox(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, o := range map[string]Outbox{"memory": &MemoryOutbox{}, "file": file} {
		for _, id := range []string{"a", "b", "c", "d"} {
			if err := o.Save(draftOf(id)); err != nil {
				t.Fatal(err)
			}
		}
		for _, err := range []error{o.Remove("a"), o.Remove("unknown"), o.Replace("b", draftOf("b2")), o.Remove("d")} {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if got := ids(t, o); !slices.Equal(got, []string{"b2", "c"}) {
			t.Errorf("%s holds %q", name, got)
		}
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	if err := file.Save(draftOf("e")); err == nil {
		t.Error("a closed file took a draft")
	}
	if file, err = OpenFileOutbox(path); err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if got := ids(t, file); !slices.Equal(got, []string{"b2", "c"}) {
		t.Errorf("after a restart the file holds %q", got)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file is %v, %v", info.Mode(), err)
	}
}

func TestAFileOutboxSurvivesACutLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox")
	whole, _ := wire.Marshal(line{Save: &Draft{ClientID: "a", Conversation: "g.a", Data: json.RawMessage("{}")}})
	if err := os.WriteFile(path, []byte(string(whole)+"\n"+string(whole[:len(whole)/2])), 0o600); err != nil {
		t.Fatal(err)
	}
	o, err := OpenFileOutbox(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := o.Save(draftOf("b")); err != nil {
		t.Fatal(err)
	}
	_ = o.Close()
	if o, err = OpenFileOutbox(path); err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	if got := ids(t, o); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("it holds %q", got)
	}
	if _, err := OpenFileOutbox(filepath.Join(path, "below a file")); err == nil {
		t.Error("an impossible path was opened")
	}
}

func TestAFileOutboxDoesNotGrowForever(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox")
	o, err := OpenFileOutbox(path)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	large := draftOf("x")
	large.Data = json.RawMessage(`{"text":"` + strings.Repeat("x", 15_000) + `"}`)
	for i := range 150 {
		large.ClientID = fmt.Sprint(i)
		if err := o.Save(large); err != nil {
			t.Fatal(err)
		}
		if err := o.Remove(large.ClientID); err != nil {
			t.Fatal(err)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Size() > 2*compactAt {
		t.Errorf("%d bytes, %v", info.Size(), err)
	}
}
