package jetstream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// SetPresence stores what a user chose for all devices, and puts it into the presence bucket, from where edges hear of it. The bucket lives
// in memory, so the first is what counts.
func (s *Store) SetPresence(ctx context.Context, u subjects.User, setting wire.PresenceSetting) error {
	if _, err := s.put(ctx, subjects.BucketUsers, subjects.ChosenPresenceKey(u), setting, 0); err != nil {
		return err
	}
	_, err := s.put(ctx, subjects.BucketPresence, subjects.SettingKey(u), setting, 0)
	return err
}

// Presence returns what a user chose, from the leader; the zero setting for a user who chose nothing.
func (s *Store) Presence(ctx context.Context, u subjects.User) (wire.PresenceSetting, error) {
	var setting wire.PresenceSetting
	_, err := s.readKey(ctx, subjects.BucketUsers, subjects.ChosenPresenceKey(u), &setting)
	if errors.Is(err, ErrNotFound) {
		err = nil
	}
	return setting, err
}

// PresenceRecords returns the settings, devices and leases from which the presence of the given users follows; every user has an entry, also
// those never seen. A lease that ran out within the last day is among them with the time of its last renewal. Records of devices and leases come
// from any replica. It costs two requests, on their way at once.
func (s *Store) PresenceRecords(ctx context.Context, users []subjects.User) (wire.PresenceRecords, error) {
	records := wire.PresenceRecords{
		Users:  make(map[subjects.User]wire.UserRecords, len(users)),
		Leases: map[subjects.Edge]wire.Lease{},
	}
	patterns := make([]string, 0, len(users)+1)
	chosen := make([]string, 0, len(users))
	for _, u := range users {
		records.Users[u] = wire.UserRecords{Devices: map[subjects.Device]wire.DeviceRecord{}}
		patterns = append(patterns, subjects.DevicesPattern(u))
		chosen = append(chosen, subjects.ChosenPresenceKey(u))
	}
	patterns = append(patterns, subjects.AllLeaseKeys)
	var (
		settings    []*rawMsg
		settingsErr error
		both        sync.WaitGroup
	)
	both.Go(func() { settings, settingsErr = s.fresh(ctx, subjects.BucketUsers, chosen...) })
	names := bucketSubjects(subjects.BucketPresence, patterns)
	found, _, err := s.matchingSubjects(ctx, subjects.BucketStream(subjects.BucketPresence), names)
	both.Wait()
	if err := cmp.Or(err, settingsErr); err != nil {
		return wire.PresenceRecords{}, fmt.Errorf("read the presence of %d users: %w", len(users), err)
	}
	for _, msg := range settings {
		u := lastToken(msg.Subject)
		record := records.Users[u]
		if err := decode(msg, &record.Setting); err != nil {
			return wire.PresenceRecords{}, err
		}
		records.Users[u] = record
	}
	for _, msg := range found {
		if err := addPresence(records, msg); err != nil {
			return wire.PresenceRecords{}, err
		}
	}
	return records, nil
}

func addPresence(records wire.PresenceRecords, msg *rawMsg) error {
	tokens := strings.Split(msg.key(subjects.BucketPresence), ".")
	if len(tokens) == 2 {
		edge := subjects.Edge(tokens[1])
		lease := wire.Lease{Edge: edge}
		if msg.gone() { // the server's note that the lease ran out, wire.LeaseTTL after its last renewal
			lease.At = wire.At(msg.Time.Add(-wire.LeaseTTL))
		} else if err := decode(msg, &lease); err != nil {
			return err
		}
		records.Leases[edge] = lease
		return nil
	}
	if msg.gone() {
		return nil
	}
	var device wire.DeviceRecord
	if err := decode(msg, &device); err != nil {
		return err
	}
	if user, ok := records.Users[subjects.User(tokens[1])]; ok {
		user.Devices[subjects.Device(tokens[2])] = device
	}
	return nil
}
