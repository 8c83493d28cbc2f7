package jetstream

import (
	"cmp"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/confab-im/confab/subjects"
)

// Layout is the version of the shape of all assets and records. A release that another could not read raises it.
const Layout = 1

// Limits of the assets.
const (
	MaxEntry          = 64 << 10            // bytes of one stored entry with its headers
	maxRecord         = 64 << 10            // bytes of one record of a bucket
	DefaultDedupe     = 2 * time.Minute     // how long a repeated entry is recognised; 140 bytes of memory an entry
	MaxDedupe         = 5 * time.Minute     // the largest window, for the same memory
	deadLettersAge    = 30 * 24 * time.Hour // how long a dead letter is kept
	deadLettersBytes  = 64 << 20            // how much of them is kept, the newest
	pagesBytes        = 256 << 20           // how much of the log is kept sealed by pages; what does not fit is read entry by entry
	presenceMarkerTTL = 24 * time.Hour      // how long the server's note stays that a lease ran out, which says when its devices were seen last
	probesAge         = time.Hour           // of the probes of instances that are gone
)

// Keys of the metadata of every asset.
const (
	metadataView   = "confab.view"   // a command that shows what is inside
	metadataLayout = "confab.layout" // Layout
)

// Profile is how a store is kept. The zero value is one server on one machine.
type Profile struct {
	// Replicas is the number of copies of each asset, 1 to 5; 0 means 1.
	Replicas int
	// MaxBytes bounds each of the 16 streams of messages, in bytes. 0 means no bound of their own: on one machine the server's
	// max_file_store bounds them all together, with the same clean error, and a busy partition may take what a quiet one leaves. Set it in a
	// cluster, where the server reserves it, so that a stream is placed only where it fits.
	MaxBytes int64
	// Dedupe is how long a repeated entry is recognised, at most MaxDedupe; 0 means DefaultDedupe.
	Dedupe time.Duration
}

// Validate returns an error that names the first field that is out of its bounds.
func (p Profile) Validate() error {
	switch {
	case p.Replicas < 0 || p.Replicas > 5:
		return fmt.Errorf("profile: %d replicas; NATS takes 1 to 5, and an even number stands no more failures than the odd one below", p.Replicas)
	case p.MaxBytes < 0:
		return fmt.Errorf("profile: max bytes of %d; give 0 for no bound", p.MaxBytes)
	case p.Dedupe < 0 || p.Dedupe > MaxDedupe || (p.Dedupe > 0 && p.Dedupe < 100*time.Millisecond):
		return fmt.Errorf("profile: a dedupe window of %v; give 0 for %v, at most %v", p.Dedupe, DefaultDedupe, MaxDedupe)
	}
	return nil
}

func (p Profile) withDefaults() Profile {
	p.Replicas = max(p.Replicas, 1)
	p.MaxBytes = cmp.Or(p.MaxBytes, -1) // JetStream's word for no bound
	p.Dedupe = cmp.Or(p.Dedupe, DefaultDedupe)
	return p
}

// volatile returns how is kept what edges write again after a loss, so that no write needs to wait for a disk: in memory by several servers, which know of it as
// long as one of them runs. A single server forgets with its memory also that there was a bucket, and nobody makes it again while programs run; it writes
// to a file when it finds time.
func (p Profile) volatile() (jetstream.StorageType, jetstream.PersistModeType) {
	if p.Replicas > 1 {
		return jetstream.MemoryStorage, jetstream.DefaultPersistMode
	}
	return jetstream.FileStorage, jetstream.AsyncPersistMode
}

// Asset is one stream or bucket of the table, as an operator sees it.
type Asset struct {
	Stream      string // the stream; of a bucket, the stream behind it
	Bucket      string // the bucket; empty for other streams
	Description string // at most 40 characters
	View        string // a command that shows what is inside
	Volatile    bool   // written anew by those whom it is about: it may be taken away and made again where it cannot be changed
	Cache       bool   // made anew from the others as it is needed: a backup leaves it out, and a store without it works

	shape func(c *jetstream.StreamConfig, p Profile)
}

// Assets returns the table of everything that confab stores, in a fixed order.
func Assets() []Asset {
	table := make([]Asset, 0, subjects.Partitions+11)
	for p := range subjects.Partitions {
		table = append(table, messagesAsset(p))
	}
	return append(table,
		Asset{
			Stream:      subjects.StreamJobs,
			Description: "Work for later, and at a set time",
			View:        viewStream(subjects.StreamJobs),
			shape: func(c *jetstream.StreamConfig, _ Profile) {
				c.Subjects = []string{subjects.AllJobs, subjects.AllScheduled}
				c.Retention = jetstream.WorkQueuePolicy
				c.AllowMsgSchedules = true // the server refuses discard new beside it, so there is no limit that would discard old work
				c.AllowMsgTTL = true
				c.AllowDirect = true // a function may look at what it has scheduled, and at nothing else
			},
		},
		Asset{
			Stream:      subjects.StreamDeadLetters,
			Description: "Events that no function could handle",
			View:        viewStream(subjects.StreamDeadLetters),
			shape: func(c *jetstream.StreamConfig, _ Profile) {
				c.Subjects = []string{subjects.AllDead}
				c.MaxAge = deadLettersAge
				c.MaxBytes = deadLettersBytes
			},
		},
		bucketAsset(subjects.BucketUsers, "Profiles, credentials, identities", nil),
		bucketAsset(subjects.BucketConversations, "Kind, title and policy of conversations", nil),
		bucketAsset(subjects.BucketMembers, "Who is in what, in both directions", func(c *jetstream.StreamConfig, _ Profile) {
			c.RePublish = republish(subjects.BucketMembers, ">", subjects.AllMembers)
			c.AllowMsgTTL = true
			c.DenyDelete = false // the note of a removal is erased at once, so that members can be counted
		}),
		bucketAsset(subjects.BucketCursors, "Read and delivered marks", nil),
		presenceAsset(),
		bucketAsset(subjects.BucketSessions, "Refresh hashes, revocations, keys", func(c *jetstream.StreamConfig, _ Profile) {
			c.AllowMsgTTL = true
		}),
		bucketAsset(subjects.BucketAmends, "What later entries changed, by page", func(c *jetstream.StreamConfig, _ Profile) {
			c.MaxMsgSize = -1 // a page of 64 edited bodies; the server's max_payload bounds it
		}),
		pagesAsset(),
		bucketAsset(subjects.BucketConfig, "Layout of the store, settings", func(c *jetstream.StreamConfig, _ Profile) {
			c.RePublish = republish(subjects.BucketConfig, subjects.ConfigKey(">"), subjects.AllConfig)
		}),
		bucketAsset(subjects.BucketProbes, "When each instance stored last", func(c *jetstream.StreamConfig, _ Profile) {
			c.MaxAge = probesAge
		}),
	)
}

// viewStream returns a command that shows what is in a stream without making a consumer, which only who may change streams may do.
func viewStream(stream string) string { return "nats sub --stream " + stream + " --direct --all" }

// messagesAsset has no age limit, no TTL and discards new messages, never old ones: were the newest entry of a conversation to vanish, its
// seq would be given twice. Deleting by sequence stays allowed, since recalling a message erases it.
func messagesAsset(partition int) Asset {
	stream := subjects.MessagesStream(partition)
	return Asset{
		Stream:      stream,
		Description: fmt.Sprintf("Messages, part %d of %d", partition+1, subjects.Partitions),
		View:        viewStream(stream),
		shape: func(c *jetstream.StreamConfig, p Profile) {
			c.Subjects = []string{subjects.PartitionMessages(partition)}
			c.Discard = jetstream.DiscardNew
			c.MaxBytes = p.MaxBytes
			c.MaxMsgSize = MaxEntry
			c.Duplicates = p.Dedupe
			c.AllowDirect = true
			c.RePublish = &jetstream.RePublish{Source: subjects.PartitionMessages(partition), Destination: subjects.AllLive}
		},
	}
}

// pagesAsset takes no new pages when it is full, and lets none expire: what leaves a stream in these ways stays on the disk for a while, where no recall
// could erase it any more. An operator may purge the stream at any time.
func pagesAsset() Asset {
	a := bucketAsset(subjects.BucketPages, "Full pages of messages, a cache", func(c *jetstream.StreamConfig, _ Profile) {
		c.MaxBytes = pagesBytes
		c.MaxMsgSize = -1 // 64 entries; the server's max_payload bounds it
		c.DenyDelete = false
	})
	a.Cache = true
	return a
}

// presenceAsset is written at every connect, so a write must cost little.
func presenceAsset() Asset {
	a := bucketAsset(subjects.BucketPresence, "Leases of edges, devices, settings", func(c *jetstream.StreamConfig, p Profile) {
		c.Storage, c.PersistMode = p.volatile()
		c.RePublish = republish(subjects.BucketPresence, ">", subjects.AllPresence)
		c.AllowMsgTTL = true
		c.SubjectDeleteMarkerTTL = presenceMarkerTTL
	})
	a.Volatile = true
	return a
}

// bucketAsset is the stream that the key-value layer of NATS (ADR-8) makes for a bucket, so that its tools work on it.
func bucketAsset(bucket, description string, more func(*jetstream.StreamConfig, Profile)) Asset {
	return Asset{
		Stream:      subjects.BucketStream(bucket),
		Bucket:      bucket,
		Description: description,
		View:        "nats stream subjects " + subjects.BucketStream(bucket),
		shape: func(c *jetstream.StreamConfig, p Profile) {
			c.Subjects = []string{subjects.BucketSubject(bucket, ">")}
			c.MaxMsgsPerSubject = 1
			c.MaxMsgSize = maxRecord
			c.Discard = jetstream.DiscardNew
			c.AllowRollup = true
			c.DenyDelete = true
			c.AllowDirect = true
			if more != nil {
				more(c, p)
			}
		},
	}
}

func republish(bucket, keys, destination string) *jetstream.RePublish {
	return &jetstream.RePublish{Source: subjects.BucketSubject(bucket, keys), Destination: destination}
}

// config returns the stream of an asset. It spells out every limit, so that it compares equal to what the server answers.
func (a Asset) config(p Profile) jetstream.StreamConfig {
	c := jetstream.StreamConfig{
		Name:              a.Stream,
		Description:       a.Description,
		Retention:         jetstream.LimitsPolicy,
		Storage:           jetstream.FileStorage,
		Discard:           jetstream.DiscardOld,
		Replicas:          p.Replicas,
		Compression:       jetstream.NoCompression, // docs/decisions/0014 and 0022
		MaxConsumers:      -1,
		MaxMsgs:           -1,
		MaxBytes:          -1,
		MaxMsgsPerSubject: -1,
		MaxMsgSize:        -1,
		Duplicates:        DefaultDedupe,
		Metadata:          map[string]string{metadataView: a.View, metadataLayout: strconv.Itoa(Layout)},
	}
	a.shape(&c, p)
	return c
}
