package jetstream

import "github.com/nats-io/nats.go"

// What tests of the raw reads see of this package; they cannot stand inside it, because package jetstreamtest imports it.

type RawMsg = rawMsg

var (
	LastFromLeader     = (*Store).lastFromLeader
	SequenceFromLeader = (*Store).sequenceFromLeader
	StoredFromLeader   = (*Store).storedFromLeader
	LastDirect         = (*Store).lastDirect
	BySequences        = (*Store).bySequences
	MultiLast          = (*Store).multiLast
	Newest             = (*Store).newest
	PlainAck           = plainAck
	Publish            = (*Store).publish
	PublishAll         = (*Store).publishAll
	Erase              = (*Store).erase
	Keys               = (*Store).keys
	Fresh              = (*Store).fresh
	Matching           = (*Store).matching
)

// Conn returns the connection of the store.
func (s *Store) Conn() *nats.Conn { return s.nc }
