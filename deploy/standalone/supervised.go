package standalone

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/confab-im/confab/deploy/manifest"
	"github.com/confab-im/confab/deploy/natsconfig"
	"github.com/confab-im/confab/deploy/process"
	"github.com/confab-im/confab/deploy/supervisor"
	"github.com/confab-im/confab/subjects"
)

// Place says where the functions of confab run.
type Place string

// The places.
const (
	PlaceInside    Place = "inside"    // in this process, always
	PlaceProcesses Place = "processes" // each instance in a child process, while there is work
)

// supervise runs functions as child processes until ctx ends.
func (s *system) supervise(ctx context.Context, entries []supervisor.Entry) error {
	for i, e := range entries {
		connection, err := s.connectionOf(e.Function)
		if err != nil {
			return err
		}
		entries[i].Environment = append(connection, e.Environment...)
	}
	nc, _, err := s.connect(natsconfig.Supervisor)
	if err != nil {
		return err
	}
	defer nc.Close()
	return supervisor.Run(ctx, supervisor.Config{
		NATS: nc, Log: s.log, IdleTimeout: s.config.IdleTimeout,
		Environment: []string{
			process.EnvPrefix + "LOG=" + s.config.Log.Level,
			process.EnvPrefix + "LOG_FORMAT=json", // which the supervisor reads, and writes as this process does
		},
	}, entries)
}

// connectionOf returns the environment with which the program of a function reaches NATS: over loopback, or as this process reaches an outside server.
func (s *system) connectionOf(f subjects.Function) ([]string, error) {
	config := s.as(string(f))
	return process.Environ(&config)
}

// entries returns what is run as child processes: the functions that are not confab's, and confab's own where they do not run inside.
func (s *system) entries() ([]supervisor.Entry, error) {
	var all []supervisor.Entry
	for _, p := range s.own {
		all = append(all, supervisor.Entry{Supervised: p.Manifest.Supervised(), Command: p.Command, Dir: p.Dir, Environment: s.config.settingsOf(p.Manifest)})
	}
	if s.config.Functions != PlaceProcesses {
		return all, nil
	}
	program, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find the program of the functions: %w", err)
	}
	settings, err := process.Environ(&s.config.Auth)
	if err != nil {
		return nil, err
	}
	for _, m := range manifest.BuiltIn() {
		e := supervisor.Entry{Supervised: m.Supervised(), Command: []string{program, "function", string(m.Function)}}
		if m.Function == "auth" {
			e.Environment = settings
		}
		if s.config.SleepAll {
			e.Scale.Min = 0
		}
		all = append(all, e)
	}
	return all, nil
}

// validatePlace returns an error that names the setting that is wrong.
func (c *Config) validatePlace() error {
	if c.Functions != PlaceInside && c.Functions != PlaceProcesses {
		return fmt.Errorf("functions %q is neither inside nor processes", c.Functions)
	}
	if c.IdleTimeout < leastIdle {
		return fmt.Errorf("idle-timeout must be at least %s", leastIdle)
	}
	return nil
}

// leastIdle keeps instances from leaving before the first call that they were started for can have come.
const leastIdle = 100 * time.Millisecond
