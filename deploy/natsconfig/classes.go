package natsconfig

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/subjects"
)

// said is what programs say and hear without storing it, by the names that manifests use.
var said = map[string]string{
	"live":        subjects.AllLive,
	"signals":     subjects.AllSignals,
	"user-events": subjects.AllUserEvents,
	"presence":    subjects.AllPresence,
}

// stored is the streams that a name in a manifest stands for: buckets by their lower-case names without the prefix, and messages for those of all partitions.
var stored = map[string][]string{
	"messages":      messageStreams(),
	"users":         bucket(subjects.BucketUsers),
	"conversations": bucket(subjects.BucketConversations),
	"members":       bucket(subjects.BucketMembers),
	"cursors":       bucket(subjects.BucketCursors),
	"presence":      bucket(subjects.BucketPresence),
	"sessions":      bucket(subjects.BucketSessions),
	"amends":        bucket(subjects.BucketAmends),
	"pages":         bucket(subjects.BucketPages),
	"config":        bucket(subjects.BucketConfig),
}

// records is the subjects of what is stored, by the names that manifests use.
var records = map[string]string{
	"messages":          subjects.AllMessages,
	"profiles":          subjects.BucketSubject(subjects.BucketUsers, subjects.ProfileKey("*")), // one token: no other key of the bucket is
	"credentials":       subjects.BucketSubject(subjects.BucketUsers, subjects.CredentialKey("*")),
	"identities":        subjects.BucketSubject(subjects.BucketUsers, subjects.IdentityKey("*")),
	"chosen-presence":   subjects.BucketSubject(subjects.BucketUsers, subjects.ChosenPresenceKey("*")),
	"conversations":     subjects.BucketSubject(subjects.BucketConversations, ">"),
	"members":           subjects.BucketSubject(subjects.BucketMembers, ">"),
	"listings":          subjects.BucketSubject(subjects.BucketMembers, subjects.MembershipsPattern("*")),
	"cursors":           subjects.BucketSubject(subjects.BucketCursors, subjects.CursorsPattern("*")),
	"amends":            subjects.BucketSubject(subjects.BucketAmends, ">"),
	"pages":             subjects.BucketSubject(subjects.BucketPages, ">"),
	"sessions":          subjects.BucketSubject(subjects.BucketSessions, ">"),
	"presence-settings": subjects.BucketSubject(subjects.BucketPresence, subjects.SettingKey("*")),
	"leases":            subjects.BucketSubject(subjects.BucketPresence, subjects.AllLeaseKeys),
	"devices":           subjects.BucketSubject(subjects.BucketPresence, subjects.DevicesPattern("*")),
	"layout":            subjects.BucketSubject(subjects.BucketConfig, subjects.LayoutKey),
	"probes":            subjects.BucketSubject(subjects.BucketProbes, subjects.ProbeKey("*")),
	"registry":          subjects.BucketSubject(subjects.BucketConfig, subjects.RegistryKey("*")),
}

func bucket(name string) []string { return []string{subjects.BucketStream(name)} }

func messageStreams() []string {
	streams := make([]string, subjects.Partitions)
	for p := range streams {
		streams[p] = subjects.MessagesStream(p)
	}
	return streams
}

// everyStream returns the streams of all assets.
func everyStream() []string {
	var streams []string
	for _, asset := range jetstream.Assets() {
		streams = append(streams, asset.Stream)
	}
	return streams
}

// foreign is a subject pattern of a function that is not confab's: its first token is a word, so it cannot reach JetStream, an inbox or a service.
var foreign = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9-]*(\.([A-Za-z0-9_-]+|\*))*(\.>)?$`)

// saidOf returns the subjects of names of classes, or patterns outside of confab's subjects.
func saidOf(names []string) ([]string, error) {
	var all []string
	own, _, _ := strings.Cut(subjects.AllRPC, ".")
	for _, name := range names {
		first, _, dotted := strings.Cut(name, ".")
		subject, ok := said[name]
		switch {
		case ok:
			all = append(all, subject)
		case dotted && foreign.MatchString(name) && first != own:
			all = append(all, name)
		default:
			return nil, fmt.Errorf("%q is neither a pattern outside of %s.> nor one of %s", name, own, listed(said))
		}
	}
	return all, nil
}

// readsOf returns the subjects of the requests that read the streams of names of classes.
func readsOf(names []string) ([]string, error) {
	return ofClasses(names, stored, func(streams []string) (all []string) {
		for _, stream := range streams {
			all = append(all, reads(stream)...)
		}
		return all
	})
}

// reads returns the requests that read a stream. What is read stands in the body of most of them, so a stream can be read whole or not at all.
func reads(stream string) []string {
	return []string{subjects.StreamInfo(stream), subjects.LeaderRead(stream), subjects.DirectRead(stream), subjects.DirectReadLast(stream, ">")}
}

// writesOf returns the subjects under which records of names of classes are stored.
func writesOf(names []string) ([]string, error) {
	return ofClasses(names, records, func(subject string) []string { return []string{subject} })
}

// erasesOf returns the subjects of the requests that erase single messages of the streams of names of classes.
func erasesOf(names []string) ([]string, error) {
	return ofClasses(names, stored, func(streams []string) (all []string) {
		for _, stream := range streams {
			all = append(all, subjects.EraseMessage(stream))
		}
		return all
	})
}

// ofClasses returns the subjects of all names, each of which must stand in a table.
func ofClasses[V any](names []string, table map[string]V, subjectsOf func(V) []string) ([]string, error) {
	var all []string
	for _, name := range names {
		class, ok := table[name]
		if !ok {
			return nil, fmt.Errorf("%q is none of %s", name, listed(table))
		}
		all = append(all, subjectsOf(class)...)
	}
	return all, nil
}

// listed lists the names of a table for an error.
func listed[V any](table map[string]V) string {
	var names []string
	for name := range table {
		names = append(names, name)
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}
