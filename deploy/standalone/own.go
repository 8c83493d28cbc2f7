package standalone

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/deploy/manifest"
	"github.com/confab-im/confab/deploy/source"
	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/subjects"
)

// openOwn reads, and builds where needed, the functions in the folders of the configuration.
func (s *system) openOwn(ctx context.Context) (err error) {
	s.own, err = source.Open(ctx, s.config.Function, filepath.Join(s.config.Data, "functions"))
	return err
}

// unregisterFormer takes back what a run before this one registered of functions in folders that are not given any more, lest callers wait for them. Their consumers
// stay, and with them their place: given again, they get what they missed.
func (s *system) unregisterFormer(ctx context.Context, nc *nats.Conn) error {
	file := filepath.Join(s.config.Data, "functions", ".registered") // no function can have that name
	before, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var now []string
	for _, p := range s.own {
		now = append(now, string(p.Manifest.Function))
	}
	text := strings.Join(now, "\n")
	if string(before) == text {
		return nil
	}
	store, err := jetstream.Open(ctx, nc)
	if err != nil {
		return err
	}
	defer store.Close()
	for name := range strings.FieldsSeq(string(before)) {
		if slices.Contains(now, name) {
			continue
		}
		if err := store.Unregister(ctx, subjects.Function(name)); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	return os.WriteFile(file, []byte(text), 0o600)
}

// Adopt keeps the settings of the functions in folders: those that their manifests name.
func (c *Config) Adopt(variables []string) (unknown []string, err error) {
	names, err := source.Settings(c.Function)
	if err != nil {
		return nil, err
	}
	for _, pair := range variables {
		if name, _, _ := strings.Cut(pair, "="); slices.Contains(names, name) {
			c.environment = append(c.environment, pair)
		} else {
			unknown = append(unknown, pair)
		}
	}
	return unknown, nil
}

// settingsOf returns the settings of one function.
func (c *Config) settingsOf(m manifest.Manifest) []string {
	var own []string
	for _, pair := range c.environment {
		if name, _, _ := strings.Cut(pair, "="); slices.Contains(m.Environment, name) {
			own = append(own, pair)
		}
	}
	return own
}
