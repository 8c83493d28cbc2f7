package subjects

import (
	"strconv"
	"strings"
	"time"
)

// JetStream answers these requests; package jetstream sends them where the client library would take more round trips, and the
// permissions of programs name them.

// JetStreamAPI is what the subjects of all requests to JetStream begin with.
const JetStreamAPI = "$JS.API."

// LeaderRead returns the subject of a read of one message from the leader of a stream.
func LeaderRead(stream string) string { return "$JS.API.STREAM.MSG.GET." + stream }

// DirectRead returns the subject of a read of one or many messages from any replica of a stream.
func DirectRead(stream string) string { return "$JS.API.DIRECT.GET." + stream }

// DirectReadLast returns the subject of a read, from any replica of a stream, of the last message under a stored subject.
func DirectReadLast(stream, subject string) string {
	return "$JS.API.DIRECT.GET." + stream + "." + subject
}

// EraseMessage returns the subject of a request to erase one message of a stream.
func EraseMessage(stream string) string { return "$JS.API.STREAM.MSG.DELETE." + stream }

// CreateStream returns the subject of a request to make a stream.
func CreateStream(stream string) string { return "$JS.API.STREAM.CREATE." + stream }

// UpdateStream returns the subject of a request to change the shape of a stream.
func UpdateStream(stream string) string { return "$JS.API.STREAM.UPDATE." + stream }

// SnapshotStream returns the subject of a request for a copy of a stream with its consumers.
func SnapshotStream(stream string) string { return "$JS.API.STREAM.SNAPSHOT." + stream }

// SnapshotAcks returns the pattern of the subjects on which whoever receives a copy of a stream says how much has come.
func SnapshotAcks(stream string) string { return "$JS.SNAPSHOT.ACK." + stream + ".>" }

// RestoreStream returns the subject of a request to make a stream out of a copy.
func RestoreStream(stream string) string { return "$JS.API.STREAM.RESTORE." + stream }

// RestoreChunks returns the pattern of the subjects to which the pieces of a copy are sent.
func RestoreChunks(stream string) string { return "$JS.SNAPSHOT.RESTORE." + stream + ".*" }

// PurgeStream returns the subject of a request to remove messages of a stream; which ones stands in its body.
func PurgeStream(stream string) string { return "$JS.API.STREAM.PURGE." + stream }

// DeleteStream returns the subject of a request to delete a stream.
func DeleteStream(stream string) string { return "$JS.API.STREAM.DELETE." + stream }

// Requests of JetStream that list what there is and change nothing.
const (
	AccountInfo = "$JS.API.INFO"
	StreamNames = "$JS.API.STREAM.NAMES"
	StreamList  = "$JS.API.STREAM.LIST"
)

// ConsumerReads returns the subjects of the requests that list the consumers of a stream and show one of them.
func ConsumerReads(stream string) []string {
	const consumer = "$JS.API.CONSUMER."
	return []string{consumer + "NAMES." + stream, consumer + "LIST." + stream, consumer + "INFO." + stream + ".*"}
}

// StreamInfo returns the subject of a request for the state of a stream.
func StreamInfo(stream string) string { return "$JS.API.STREAM.INFO." + stream }

// StepDown returns the subject of a request to the leader of a stream to hand over to another server of its cluster.
func StepDown(stream string) string { return "$JS.API.STREAM.LEADER.STEPDOWN." + stream }

// ConsumerInfo returns the subject of a request for the state of the consumer of a stream that is named after a function.
func ConsumerInfo(stream string, f Function) string {
	return "$JS.API.CONSUMER.INFO." + stream + "." + string(f)
}

// PullNext returns the subject of a request for the next messages of the consumer of a stream that is named after a function.
func PullNext(stream string, f Function) string {
	return "$JS.API.CONSUMER.MSG.NEXT." + stream + "." + string(f)
}

// Acks returns the patterns of the subjects on which what became of a message of a function's consumer is told: the form of today's servers, and the one with
// the domain and the account in it.
func Acks(stream string, f Function) []string {
	tail := stream + "." + string(f) + ".>"
	return []string{"$JS.ACK." + tail, "$JS.ACK.*.*." + tail}
}

// ChangeConsumer returns the subjects of the requests that make, change and remove the consumer of a stream that is named after a function; "*" stands for
// every function.
func ChangeConsumer(stream string, f Function) []string {
	const consumer = "$JS.API.CONSUMER."
	tail := stream + "." + string(f)
	return []string{consumer + "CREATE." + tail, consumer + "CREATE." + tail + ".>", consumer + "DELETE." + tail}
}

// ackPrefix begins the subjects that tell what became of a message.
const ackPrefix = "$JS.ACK."

// Delivery is what the reply subject of a message from a consumer says about it.
type Delivery struct {
	Stream   string
	Sequence uint64    // in the stream
	Tries    int       // how often the message was delivered, this time included
	Stored   time.Time // when the stream stored it
}

// ParseDelivery reads the reply subject of a message from a consumer, $JS.ACK.<stream>.<consumer>.<tries>.<sequence>.<delivery>.<time>.<pending>, or the same
// with <domain>.<account> before the stream; ok is false for any other subject.
func ParseDelivery(reply string) (d Delivery, ok bool) {
	rest, ok := strings.CutPrefix(reply, ackPrefix)
	if !ok {
		return Delivery{}, false
	}
	tokens := strings.Split(rest, ".")
	if len(tokens) >= 9 {
		tokens = tokens[2:]
	}
	if len(tokens) < 7 {
		return Delivery{}, false
	}
	tries, err1 := strconv.Atoi(tokens[2])
	sequence, err2 := strconv.ParseUint(tokens[3], 10, 64)
	at, err3 := strconv.ParseInt(tokens[5], 10, 64)
	if err1 != nil || err2 != nil || err3 != nil || tries < 1 || sequence == 0 {
		return Delivery{}, false
	}
	return Delivery{Stream: tokens[0], Sequence: sequence, Tries: tries, Stored: time.Unix(0, at)}, true
}
