package natsconfig

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// Cluster is what the servers of a cluster know of each other.
type Cluster struct {
	Name     string   // the same on every server
	Listen   string   // host:port where the other servers connect
	Routes   []string // host:port of every server, whose own may be among them
	Password string   // by which they know each other, as RoutePassword returns it
	TLS      TLS      // empty = they speak without
}

// serverName is what a server of a cluster may be called: the name is part of a file's, and of what other servers store.
var serverName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$`)

// Validate returns an error that says what is missing of the cluster of the server of that name.
func (c *Cluster) Validate(server string) error {
	if !serverName.MatchString(c.Name) || !serverName.MatchString(server) {
		return fmt.Errorf("cluster %q and server %q need names of letters, digits, - and _", c.Name, server)
	}
	for _, address := range append([]string{c.Listen}, c.Routes...) {
		if _, _, err := net.SplitHostPort(address); err != nil {
			return fmt.Errorf("%q, where a server of the cluster listens, is not of the form host:port", address)
		}
	}
	if len(c.Routes) == 0 {
		return errors.New("the routes of a cluster name where its servers listen for each other")
	}
	return nil
}

// TLS names the files, PEM, with which a server speaks TLS. Servers of a cluster show each other their certificates, which must serve for both sides, and check them against CA.
type TLS struct{ Certificate, Key, CA string }

// RoutePassword returns the password by which servers of a cluster know each other, from the directory of the seeds, and makes it where there is none yet.
func RoutePassword(dir string) (string, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("make the directory: %w", err)
	}
	password, err := routePassword(filepath.Join(dir, "route.password"))
	if err != nil {
		return "", fmt.Errorf("password of routes: %w", err)
	}
	return password, nil
}

// routePassword returns the password in a file, and makes both where there is no file. It begins with a letter and needs no quotes anywhere.
func routePassword(path string) (string, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		text = []byte("p" + rand.Text() + "\n")
		err = newFile(path, text)
	}
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(string(text)), nil
}

// routeUser is what servers of a cluster call themselves to each other.
const routeUser = "route"

// render returns the block of a server's configuration; "" for nil, a server that stands alone. A paused server is missed after ten seconds, as clients miss it.
func (c *Cluster) render() string {
	if c == nil {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "cluster {\n  name: %s\n  listen: %s\n  ping_interval: \"5s\"\n", strconv.Quote(c.Name), strconv.Quote(c.Listen))
	fmt.Fprintf(&b, "  authorization {user: %s, password: %s}\n  routes: [\n", routeUser, strconv.Quote(c.Password))
	for _, route := range c.Routes {
		fmt.Fprintf(&b, "    %s\n", strconv.Quote(fmt.Sprintf("nats-route://%s:%s@%s", routeUser, c.Password, route)))
	}
	b.WriteString("  ]\n")
	if c.TLS.Certificate != "" {
		fmt.Fprintf(&b, "  tls {cert_file: %s, key_file: %s, ca_file: %s, verify: true}\n", strconv.Quote(c.TLS.Certificate), strconv.Quote(c.TLS.Key), strconv.Quote(c.TLS.CA))
	}
	b.WriteString("}\n")
	return b.String()
}

// render returns the line of a server's configuration with which its clients speak TLS; "" without a certificate. They prove who they are with their keys.
func (t TLS) render() string {
	if t.Certificate == "" {
		return ""
	}
	return fmt.Sprintf("tls {cert_file: %s, key_file: %s}\n", strconv.Quote(t.Certificate), strconv.Quote(t.Key))
}

// Absolute returns the same files by their whole paths, since a server may be started elsewhere.
func (t TLS) Absolute() (TLS, error) {
	for _, path := range []*string{&t.Certificate, &t.Key, &t.CA} {
		if *path == "" {
			continue
		}
		whole, err := filepath.Abs(*path)
		if err != nil {
			return TLS{}, err
		}
		*path = whole
	}
	return t, nil
}
