package natsconfig

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/confab-im/confab/deploy/manifest"
)

func TestSecretsAreTheirOwnersAloneAndStay(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "secrets")
	users, err := Users(manifest.BuiltIn())
	if err != nil {
		t.Fatal(err)
	}
	server := Server{Listen: "127.0.0.1:4222", StoreDir: filepath.Join(dir, "jetstream")}
	first := map[string]string{}
	for round := range 2 {
		if err := Write(dir, server, users); err != nil {
			t.Fatal(err)
		}
		if err := WriteKubernetes(dir, "confab-nats", users); err != nil {
			t.Fatal(err)
		}
		err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := entry.Info()
			if err != nil {
				return err
			}
			if info.Mode().Perm()&0o077 != 0 {
				t.Errorf("%s has the mode %v", path, info.Mode())
			}
			if entry.IsDir() {
				return nil
			}
			text, err := os.ReadFile(path)
			if round == 0 {
				first[path] = string(text)
			} else if first[path] != string(text) {
				t.Errorf("%s is another one the second time", path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(first) != len(users)+3 {
		t.Errorf("there are %d files for %d users", len(first), len(users))
	}
}

func TestABrokenSeedIsReportedAndKept(t *testing.T) {
	dir := t.TempDir()
	users, err := Users(manifest.BuiltIn())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(SeedFile(dir, Edge), []byte("not a seed"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Write(dir, Server{Listen: "127.0.0.1:4222", StoreDir: dir}, users); err == nil {
		t.Error("a broken seed is taken")
	}
	if text, err := os.ReadFile(SeedFile(dir, Edge)); err != nil || string(text) != "not a seed" {
		t.Errorf("the file holds %q now (%v)", text, err)
	}
}

func TestAUserWithoutALimitIsRefused(t *testing.T) {
	key := "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4"
	for name, u := range map[string]User{
		"no list of subjects": {Name: "x", Subscribe: []string{"a"}},
		"no subscriptions":    {Name: "x", Publish: []string{"a"}},
	} {
		if _, err := Render(Server{}, []User{u}, map[string]string{"x": key}); err == nil {
			t.Errorf("%s: a server would let it do everything", name)
		}
	}
	u := User{Name: "x", Publish: []string{"a"}, Subscribe: []string{"b"}}
	if _, err := Render(Server{}, []User{u}, nil); err == nil {
		t.Error("a user without a key is taken")
	}
	if _, err := Render(Server{}, []User{u}, map[string]string{"x": key}); err != nil {
		t.Error(err)
	}
}
