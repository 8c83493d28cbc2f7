package natsconfig

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/nats-io/nkeys"
)

// Server is what the configuration says beside users.
type Server struct {
	Name      string   // unique in a cluster, also after a restart; empty = confab
	Listen    string   // host:port
	StoreDir  string   // where JetStream keeps its files
	Anonymous string   // the user that a connection without a key is; empty = such a connection is refused
	Cluster   *Cluster // nil = the server stands alone
	TLS       TLS      // for clients; empty = none
	Fast      bool     // acknowledge before syncing: a power cut may lose what was acknowledged
}

// ServerFile is the name of the file that Write makes for a server that stands alone.
const ServerFile = "nats-server.conf"

// File returns the name of the file that Write makes for a server: that of a cluster is called after the server, so that one directory holds all.
func (s Server) File() string {
	if s.Cluster == nil {
		return ServerFile
	}
	return "nats-server-" + s.Name + ".conf"
}

// SeedFile returns the file of a user's seed in a directory that Write filled; the inboxes of whoever connects with it follow from its name.
func SeedFile(dir, user string) string { return filepath.Join(dir, user+".nk") }

// Write writes the configuration of a server and a seed for each user into a directory, which only this user of the machine can read. Seeds that
// are there stay, so a new release changes permissions and no keys. The servers of a cluster share one directory.
func Write(dir string, server Server, users []User) error {
	keys, err := Keys(dir, users)
	if err != nil {
		return err
	}
	text, err := Render(server, users, keys)
	if err != nil {
		return err
	}
	return replaceFile(filepath.Join(dir, server.File()), []byte(text))
}

// replaceFile writes a file that only this user of the machine can read; whoever reads it meanwhile does not find half of it.
func replaceFile(path string, data []byte) error {
	if err := os.WriteFile(path+".new", data, 0o600); err != nil {
		return fmt.Errorf("write the configuration: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("write the configuration: %w", err)
	}
	return nil
}

// Keys returns the public key of each user, and makes the seeds that are not in the directory yet, which only this user of the machine can read.
func Keys(dir string, users []User) (map[string]string, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the directory: %w", err)
	}
	keys := map[string]string{}
	for _, u := range users {
		key, err := seed(SeedFile(dir, u.Name))
		if err != nil {
			return nil, fmt.Errorf("key of user %s: %w", u.Name, err)
		}
		keys[u.Name] = key
	}
	return keys, nil
}

// seed returns the public key of the seed in a file, and makes both where there is no file.
func seed(path string) (string, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return newSeed(path)
	}
	if err != nil {
		return "", err
	}
	pair, err := nkeys.ParseDecoratedNKey(text)
	if err != nil {
		return "", fmt.Errorf("read %s: %w", path, err)
	}
	defer pair.Wipe()
	return pair.PublicKey()
}

func newSeed(path string) (string, error) {
	pair, err := nkeys.CreateUser()
	if err != nil {
		return "", err
	}
	defer pair.Wipe()
	text, err := pair.Seed()
	if err != nil {
		return "", err
	}
	if err := newFile(path, append(text, '\n')); err != nil {
		return "", err
	}
	return pair.PublicKey()
}

// newFile writes a secret where there is no file yet: one or a link that appeared meanwhile is not written through.
func newFile(path string, data []byte) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	if err := errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// Render returns the configuration of a server; keys holds the public key of each user. It refuses a user without a list of what is allowed,
// which a server would take for leave to do everything.
func Render(server Server, users []User, keys map[string]string) (string, error) {
	accounts, err := renderAccounts(server.Anonymous, users, keys)
	if err != nil {
		return "", err
	}
	sync := "always # what is acknowledged survives a power cut"
	if server.Fast {
		sync = "\"2m\" # a power cut may lose what was acknowledged in these minutes"
	}
	return fmt.Sprintf(`# Written by confab nats-config, which writes it anew; the keys stay.
server_name: %s
listen: %s
ping_interval: "5s"
%sjetstream {
  store_dir: %s
  sync_interval: %s
  strict: true # the server's preset: a request with a field too many is refused
}
%s%s`, strconv.Quote(cmp.Or(server.Name, "confab")), strconv.Quote(server.Listen), server.TLS.render(), strconv.Quote(server.StoreDir), sync,
		server.Cluster.render(), accounts), nil
}

// renderAccounts returns the accounts and the users of a server's configuration; a connection without a key is the user anonymous, or refused where that is empty.
func renderAccounts(anonymous string, users []User, keys map[string]string) (string, error) {
	for _, u := range users {
		if len(u.Publish) == 0 || len(u.Subscribe) == 0 || !nkeys.IsValidPublicUserKey(keys[u.Name]) {
			return "", fmt.Errorf("user %s has no key, or a list without an entry", u.Name)
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "system_account: %s\n", system)
	if anonymous != "" {
		key, ok := keys[anonymous]
		if !ok {
			return "", fmt.Errorf("the user %s of connections without a key has none itself", anonymous)
		}
		fmt.Fprintf(&b, "no_auth_user: %s # %s\n", key, anonymous)
	}
	b.WriteString("accounts {\n")
	writeSystem(&b)
	fmt.Fprintf(&b, "  %s {\n    jetstream: enabled\n", Account)
	writeGate(&b)
	writeExports(&b, users)
	writeUsers(&b, Account, users, keys)
	fmt.Fprintf(&b, "  }\n  %s {\n", Viewers)
	writeImports(&b, users)
	writeUsers(&b, Viewers, users, keys)
	b.WriteString("  }\n}\n")
	return b.String(), nil
}

func writeUsers(b *strings.Builder, account string, users []User, keys map[string]string) {
	b.WriteString("    users: [\n")
	for _, u := range users {
		if u.Account != account {
			continue
		}
		fmt.Fprintf(b, "      { # %s\n        nkey: %s\n        permissions: {\n", u.Name, keys[u.Name])
		publish := make([]string, len(u.Publish))
		for i, subject := range u.Publish {
			publish[i] = seen(account, subject)
		}
		writeList(b, "publish", publish)
		writeList(b, "subscribe", u.Subscribe)
		b.WriteString("        }\n      }\n")
	}
	b.WriteString("    ]\n")
}

func writeList(b *strings.Builder, what string, list []string) {
	fmt.Fprintf(b, "          %s: {allow: [\n", what)
	for _, subject := range list {
		fmt.Fprintf(b, "            %s\n", strconv.Quote(subject))
	}
	b.WriteString("          ]}\n")
}
