package subjects

// Headers of a call. Whoever may publish on im.rpc vouches for them: edges set them from a verified token and never from a body.
const (
	HeaderUser        = "Confab-User"        // the verified user; absent before sign-in
	HeaderDevice      = "Confab-Device"      // the device of the connection
	HeaderSession     = "Confab-Session"     // the session that the token belongs to
	HeaderAddress     = "Confab-Address"     // the client's address, for limits on failures
	HeaderDeadline    = "Confab-Deadline"    // absolute: Unix milliseconds; after it nobody waits for the answer
	HeaderTraceparent = "traceparent"        // W3C trace context
	HeaderReply       = "Confab-Reply"       // on every answer of a function: the instance; tells an answer from a stream's acknowledgement
	HeaderRetryAfter  = "Confab-Retry-After" // on an error: milliseconds
	HeaderRefused     = "Confab-Refused"     // on an error: the reason why the work was not begun; the call may be sent again
	HeaderErrorText   = "Nats-Service-Error" // on an error: the sentence, as micro writes it
	HeaderErrorCode   = "Nats-Service-Error-Code"
)

// Headers of work for later. JetStream's own say when a message is to be published anew, under which subject, and how long that copy is kept; HeaderScheduler is
// set on the copy by the server alone.
const (
	HeaderJob            = "Confab-Job" // the id of the job, as whoever asked for it knows it
	HeaderSchedule       = "Nats-Schedule"
	HeaderScheduleTarget = "Nats-Schedule-Target"
	HeaderScheduleTTL    = "Nats-Schedule-TTL"
	HeaderScheduler      = "Nats-Scheduler" // the subject that the message waited under
)

// Headers of a stored entry. Package jetstream writes and reads them; of these edges read HeaderEntry only.
const (
	HeaderEntry   = "Confab-Entry"   // seq=57 count=41 epoch=12 kind=message from=ada
	HeaderBack    = "Confab-Back"    // stream sequences of earlier entries, see package jetstream
	HeaderPosters = "Confab-Posters" // ada=57/41 bob=55/40: the newest post of the latest authors
	HeaderErased  = "Confab-Erased"  // on a recall: what remains of the entries that it erases, a JSON array
	HeaderSpent   = "Confab-Spent"   // <id>=57/41/1795187045123: ids of erased entries whose repeats may still come
)

// Headers that the server adds to a live copy of what it has stored. Who says an entry again cannot add them.
const (
	HeaderStream   = "Nats-Stream"   // where it is stored
	HeaderSequence = "Nats-Sequence" // its place there
)

// HeaderPage is the header of a sealed page: last=4711 sizes=212.0.198: the stream sequence of its last entry, and how many bytes each entry has. Beside it
// stands HeaderBack, that of its last entry. Package jetstream writes and reads them.
const HeaderPage = "Confab-Page"
