package subjects

// JetStream answers these requests; package jetstream sends them where the client library would take more round trips, and the
// permissions of programs name them.

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
