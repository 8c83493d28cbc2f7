package subjects

import (
	"fmt"
	"strings"
)

// Patterns that match whole families of subjects.
const (
	AllRPC          = "im.rpc.>"              // every call to a function; no stream may overlap it
	AllCalls        = "im.call.*.*"           // calls that edges pass on to functions, waking them
	AllScale        = "im.scale.>"            // every event of instances and callers
	AllMessages     = "im.msg.*.>"            // every stored entry
	AllLive         = "im.live.>"             // every live copy of an entry
	AllLiveDirect   = "im.live.d.>"           // live copies in direct conversations
	AllSignals      = "im.signal.>"           // every signal
	AllSignalDirect = "im.signal.d.>"         // signals in direct conversations
	AllUserEvents   = "im.user.*"             // events of every user
	AllEdges        = "im.edge.*.*"           // every request to an edge
	AllJobs         = "im.job.>"              // work for later
	AllScheduled    = "im.sched.>"            // work at a set time
	AllDead         = "im.dead.>"             // what no function could handle
	AllPresence     = "im.presence.>"         // republished keys of the presence bucket
	AllLeases       = "im.presence.e.*"       // republished leases of edges
	AllDevices      = "im.presence.s.*.*"     // republished device records of all users
	AllMembers      = "im.member.>"           // republished keys of the members bucket
	AllConfig       = "im.config.>"           // republished keys of the configuration bucket
	AllRegistered   = "im.config.functions.*" // republished records of the registry of functions
	presencePrefix  = "im.presence."          // then a key of the presence bucket
	livePrefix      = "im.live."
	signalPrefix    = "im.signal."
	userPrefix      = "im.user."
	relayPrefix     = "im.call."
	messagePrefix   = "im.msg."
	jobPrefix       = "im.job."
	schedulePrefix  = "im.sched."
)

// Verb is what happened to an instance of a function, or what a caller asks for, on im.scale.<function>.<verb>.
type Verb string

// The verbs of im.scale.
const (
	Up     Verb = "up"     // an instance is ready for calls; repeated as a beat
	Bye    Verb = "bye"    // an instance takes no more calls
	Who    Verb = "who"    // instances, say up again
	Demand Verb = "demand" // a caller holds calls that nobody answers
	Broken Verb = "broken" // instances are asked for and do not start
)

// Everyone stands in the place of a function where a caller asks the instances of all functions to say up again.
const Everyone Function = "all"

// EdgeVerb is a request to one edge on im.edge.<edge>.<verb>.
type EdgeVerb string

// The verbs of im.edge.
const (
	EdgeDrain EdgeVerb = "drain"
	EdgeKick  EdgeVerb = "kick"
	EdgeStats EdgeVerb = "stats"
)

// RPC returns the subject on which instances of a function answer a method.
func RPC(f Function, m Method) string { return "im.rpc." + string(f) + "." + string(m) }

// RelayQueue is the queue group of those who pass calls on.
const RelayQueue = "im-call"

// Relayed returns the subject on which edges pass a call on to a method, also while its function sleeps.
func Relayed(f Function, m Method) string { return relayPrefix + string(f) + "." + string(m) }

// ParseRelayed returns the function and the method of a subject that Relayed built, or an error that wraps ErrBadID.
func ParseRelayed(subject string) (Function, Method, error) {
	return ParseCall(strings.TrimPrefix(subject, relayPrefix))
}

// Service returns the name of a function's micro service, which is also its queue group.
func Service(f Function) string { return "im-" + string(f) }

// Scale returns the subject of a function's scaling event.
func Scale(f Function, v Verb) string { return "im.scale." + string(f) + "." + string(v) }

// AllOf returns the pattern that matches one verb of im.scale for every function.
func AllOf(v Verb) string { return "im.scale.*." + string(v) }

// Job returns the subject of work for later.
func Job(f Function, m Method) string { return jobPrefix + string(f) + "." + string(m) }

// AllJobsOf returns the pattern of all work for later of a function.
func AllJobsOf(f Function) string { return jobPrefix + string(f) + ".>" }

// ParseJob returns the function and the method of a subject that Job built, or an error that wraps ErrBadID.
func ParseJob(subject string) (Function, Method, error) {
	rest, ok := strings.CutPrefix(subject, jobPrefix)
	if !ok {
		return "", "", fmt.Errorf("%w: a subject of %d bytes does not begin with %s", ErrBadID, len(subject), jobPrefix)
	}
	return ParseCall(rest)
}

// Schedule returns the subject under which work for a set time waits; id may be "*" or ">" in a pattern.
func Schedule(f Function, id JobID) string { return schedulePrefix + string(f) + "." + string(id) }

// ParseSchedule returns the function and the id of a subject that Schedule built, or an error that wraps ErrBadID.
func ParseSchedule(subject string) (Function, JobID, error) {
	rest, ok := strings.CutPrefix(subject, schedulePrefix)
	f, id, dotted := strings.Cut(rest, ".")
	if !ok || !dotted || !isName(f) || !isID(id) {
		return "", "", badID("schedule", subject)
	}
	return Function(f), JobID(id), nil
}

// Dead returns the subject of what a function could not handle.
func Dead(f Function) string { return "im.dead." + string(f) }

// Message returns the subject under which the entries of a conversation are stored.
func Message(c Conversation) string {
	p := c.Partition()
	return messagePrefix + "p" + string([]byte{'0' + byte(p/10), '0' + byte(p%10)}) + "." + string(c)
}

// ParseMessage returns the conversation of a subject that Message built, or an error that wraps ErrBadID.
func ParseMessage(subject string) (Conversation, error) {
	rest, _ := strings.CutPrefix(subject, messagePrefix)
	_, id, _ := strings.Cut(rest, ".")
	c, err := ParseConversation(id)
	if err != nil || Message(c) != subject {
		return "", badID("message", subject)
	}
	return c, nil
}

// Live returns the subject of live copies of a conversation's entries.
func Live(c Conversation) string { return livePrefix + string(c) }

// ParseLive returns the conversation of a subject that Live built, or an error that wraps ErrBadID.
func ParseLive(subject string) (Conversation, error) {
	return parseAfter(livePrefix, subject)
}

// Signal returns the subject of what is said in a conversation and never stored.
func Signal(c Conversation) string { return signalPrefix + string(c) }

// ParseSignal returns the conversation of a subject that Signal built, or an error that wraps ErrBadID.
func ParseSignal(subject string) (Conversation, error) {
	return parseAfter(signalPrefix, subject)
}

func parseAfter(prefix, subject string) (Conversation, error) {
	rest, ok := strings.CutPrefix(subject, prefix)
	if !ok {
		return "", fmt.Errorf("%w: a subject of %d bytes does not begin with %s", ErrBadID, len(subject), prefix)
	}
	return ParseConversation(rest)
}

// UserEvents returns the subject of events for the edges that hold a user.
func UserEvents(u User) string { return userPrefix + string(u) }

// ParseUserEvents returns the user of a subject that UserEvents built, or an error that wraps ErrBadID.
func ParseUserEvents(subject string) (User, error) {
	rest, ok := strings.CutPrefix(subject, userPrefix)
	if !ok {
		return "", fmt.Errorf("%w: a subject of %d bytes does not begin with %s", ErrBadID, len(subject), userPrefix)
	}
	return ParseUser(rest)
}

// EdgeRequest returns the subject of a request to one edge.
func EdgeRequest(e Edge, v EdgeVerb) string { return "im.edge." + string(e) + "." + string(v) }

// PresenceSettingOf returns the subject of the republished presence setting of a user.
func PresenceSettingOf(u User) string { return presencePrefix + SettingKey(u) }

// PresenceKey returns the key of the presence bucket that a republished subject speaks of.
func PresenceKey(subject string) string { return strings.TrimPrefix(subject, presencePrefix) }

// InboxPrefix returns what the inboxes of a NATS user of confab begin with. Each user may read its own only.
func InboxPrefix(user string) string { return "_INBOX_" + user }
