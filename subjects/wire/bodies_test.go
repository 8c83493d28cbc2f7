package wire

import (
	"encoding/json"
	"time"

	"github.com/confab-im/confab/subjects"
)

// The golden values: one realistic instance or more of every body, every event and every frame. Their file is testdata/golden/<name>.json,
// which the tests of the TypeScript SDK read too; a name is the type's, and after a dash what is special.

var (
	at    = At(time.Date(2026, 11, 20, 15, 4, 5, 123_000_000, time.UTC))
	later = At(time.Date(2026, 11, 20, 15, 19, 5, 0, time.UTC))
	title = "Garden club"
	seq55 = Seq(55)
	seq1  = Seq(1)
)

const (
	clientID = "019aa1c3-5b1b-7c40-9a55-3f1f6f5d2b01"
	session  = "s-7f3kq2m9x4"
	jwt      = "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJhZGEifQ.c2lnbmF0dXJl"
	refresh  = "r-3v9c0n5w8b7d1q"
)

var greeting = json.RawMessage(`{"text":"Good morning <b>everybody</b> & 👋"}`)

// raw returns v as JSON for a field that holds it undecoded.
func raw(v any) json.RawMessage {
	data, err := Marshal(v)
	if err != nil {
		panic(err)
	}
	return data
}

var message = Entry{Conversation: "g.general", Seq: 57, Count: 41, Kind: KindMessage, From: "ada", At: at, ClientID: clientID, ReplyTo: 12, Body: greeting}

// requests are the bodies of calls, which Decode must accept.
var requests = map[string]any{
	"Hello":             &Hello{Token: jwt, Device: "web-1"},
	"Hello-upgraded":    &Hello{Device: "web-1"},
	"Register":          &Register{User: "ada", Password: "correct horse", Name: "Ada L.", Invite: "i-5h2", Device: "web-1"},
	"Login":             &Login{User: "ada", Password: "correct horse", Device: "web-1"},
	"Refresh":           &Refresh{RefreshToken: refresh},
	"Logout":            &Logout{Session: session},
	"Logout-all":        &Logout{All: true},
	"Post":              &Post{Conversation: "g.general", ClientID: clientID, Body: greeting, ReplyTo: 12},
	"Post-to":           &Post{To: "bob", ClientID: clientID, Body: json.RawMessage(`{"text":"hi"}`)},
	"Edit":              &Edit{Conversation: "g.general", Seq: 57, ClientID: clientID, Body: json.RawMessage(`{"text":"hello"}`)},
	"Recall":            &Recall{Conversation: "g.general", Seq: 57, ClientID: clientID},
	"React":             &React{Conversation: "g.general", Seq: 57, ClientID: clientID, Emoji: "👍"},
	"React-remove":      &React{Conversation: "g.general", Seq: 57, ClientID: clientID, Emoji: "👍", Remove: true},
	"Append":            &Append{Conversation: "g.garden", Kind: KindMember, From: "ada", ClientID: "add-bob-1", Body: raw(MemberBody{User: "bob", Change: ChangeAdded, Role: RoleMember, By: "ada"})},
	"EntryRef":          &EntryRef{Conversation: "g.general", Seq: 57, Sequence: 5702},
	"HeadsQuery":        &HeadsQuery{After: "g.general", Limit: 100},
	"PageQuery":         &PageQuery{Conversation: "g.general", Limit: 50},
	"PageQuery-after":   &PageQuery{Conversation: "g.general", After: &seq55, Limit: 200, AtLeast: 57},
	"PageQuery-before":  &PageQuery{Conversation: "g.general", Before: &seq55, Limit: 50},
	"PageQuery-around":  &PageQuery{Conversation: "g.general", Around: &seq1, Limit: 50},
	"PageQuery-at":      &PageQuery{Conversation: "g.general", Time: &at, Limit: 50},
	"HeadsOfQuery":      &HeadsOfQuery{Users: []subjects.User{"ada", "bob"}},
	"HeadCheck":         &HeadCheck{Heads: map[subjects.Conversation]Seq{"d.ada.bob": 3, "g.general": 57}},
	"FillQuery":         &FillQuery{Conversation: "g.general", After: 55, Limit: 200},
	"Create":            &Create{Kind: subjects.KindGroup, ID: "garden", Title: title, Members: []subjects.User{"bob", "cyd"}, Policy: Policy{History: HistoryStart}},
	"ConversationQuery": &ConversationQuery{Conversation: "g.garden"},
	"Update":            &Update{Conversation: "g.garden", Title: &title, Policy: &Policy{History: HistoryStart}},
	"MembersQuery":      &MembersQuery{Conversation: "g.garden", After: "ada", Limit: 200},
	"MemberUpdate":      &MemberUpdate{Conversation: "g.garden", User: "bob", Role: RoleModerator},
	"UserQuery":         &UserQuery{User: "ada"},
	"MarkQuery":         &MarkQuery{Conversation: "g.general", Read: 57, Delivered: 57},
	"ReadersQuery":      &ReadersQuery{Conversation: "g.general", Seq: 57},
	"PresenceSetting":   &PresenceSetting{State: StateAway, Status: "at lunch"},
	"UsersQuery":        &UsersQuery{Users: []subjects.User{"bob", "cyd"}},
	"Signal":            &Signal{Conversation: "g.general", Kind: "typing"},
	"Verify":            &Verify{Token: jwt},
	"Verifications":     &Verifications{Tokens: []string{jwt}},
	"MembershipsQuery":  &MembershipsQuery{Users: []subjects.User{"ada", "bob"}},
	"RevocationsQuery":  &RevocationsQuery{After: 17},
	"Issue":             &Issue{User: "ada", Device: "bot", Name: "Ada L.", Create: true, TTLMS: 3_600_000},
	"Kick":              &Kick{User: "ada", Session: session},
	"Invite":            &Invite{Uses: 5, TTLMS: 86_400_000},
	"Empty":             &Empty{},
}

// answers are what comes back, what events carry, and what programs tell each other.
var answers = map[string]any{
	"Welcome":          &Welcome{User: "ada", Device: "web-1", Session: session, ServerTime: at, ExpiresAt: later, PingSeconds: 25, Limits: Limits{FrameBytes: 65536, BodyBytes: MaxBody, CallsASec: 50, OpenCalls: 64}, Calls: []string{"auth.refresh", "send.post"}},
	"Tokens":           &Tokens{Token: jwt, ExpiresAt: later, RefreshToken: refresh, User: "ada"},
	"Posted":           &Posted{Conversation: "g.general", Seq: 57, Count: 41, At: at},
	"Posted-duplicate": &Posted{Conversation: "g.general", Seq: 57, Count: 41, At: at, Duplicate: true},
	"Entry":            &message,
	"Entry-folded":     &Entry{Conversation: "g.general", Seq: 57, Count: 41, Kind: KindMessage, From: "ada", At: at, ClientID: clientID, Body: json.RawMessage(`{"text":"hello"}`), EditedAt: &later, Reactions: map[string][]subjects.User{"👍": {"bob", "cyd"}}},
	"Entry-recalled":   &Entry{Conversation: "g.general", Seq: 57, Count: 41, Kind: KindMessage, From: "ada", At: at, ClientID: clientID, Recalled: true},
	"Entry-edit":       &Entry{Conversation: "g.general", Seq: 58, Count: 41, Kind: KindEdit, From: "ada", At: later, ClientID: clientID, Target: 57, Body: json.RawMessage(`{"text":"hello"}`)},
	"Entry-recall":     &Entry{Conversation: "g.general", Seq: 59, Count: 41, Kind: KindRecall, From: "ada", At: later, ClientID: clientID, Target: 57},
	"Entry-reaction":   &Entry{Conversation: "g.general", Seq: 60, Count: 41, Kind: KindReaction, From: "bob", At: later, ClientID: clientID, Target: 57, Body: raw(ReactionBody{Emoji: "👍"})},
	"Entry-member":     &Entry{Conversation: "g.garden", Seq: 2, Kind: KindMember, From: "ada", At: at, Body: raw(MemberBody{User: "bob", Change: ChangeAdded, Role: RoleMember, By: "ada"})},
	"Entry-policy":     &Entry{Conversation: "g.garden", Seq: 3, Kind: KindPolicy, From: "ada", At: at, Body: json.RawMessage(`{"title":"Garden club"}`)},
	"MemberBody":       &MemberBody{User: "bob", Change: ChangeRole, Role: RoleModerator, By: "ada"},
	"MemberBody-left":  &MemberBody{User: "bob", Change: ChangeLeft, By: "bob"},
	"ReactionBody":     &ReactionBody{Emoji: "👍", Remove: true},
	"Policy":           &Policy{History: HistoryStart},
	"Heads":            &Heads{Conversations: []ConversationHead{{Conversation: "g.general", Kind: subjects.KindGroup, Title: "General", Head: Head{Seq: 57, Count: 41, Entry: raw(message)}, Read: Mark{Seq: 55, Count: 40}, Unread: 1, Role: RoleMember}}, Next: "g.general"},
	"HeadsOf":          &HeadsOf{Users: map[subjects.User]Heads{"ada": {Conversations: []ConversationHead{{Conversation: "g.general", Kind: subjects.KindGroup, Title: "General", Head: Head{Seq: 57, Count: 41, Entry: raw(message)}, Read: Mark{Seq: 55, Count: 40}, Unread: 1, Role: RoleMember}}}, "bob": {Conversations: []ConversationHead{}}}},
	"Page":             &Page{Entries: []json.RawMessage{raw(message)}, First: 57, Last: 57, MoreBefore: true},
	"Page-empty":       &Page{Entries: []json.RawMessage{}, MoreBefore: true},
	"HeadsChecked":     &HeadsChecked{Heads: map[subjects.Conversation]Seq{"g.general": 58}, Tails: []uint64{812, 0, 33}},
	"Filled":           &Filled{Entries: []json.RawMessage{raw(message)}, Head: 57},
	"ConversationInfo": &ConversationInfo{Conversation: "g.garden", Kind: subjects.KindGroup, Title: title, Policy: Policy{}, Role: RoleOwner, Members: 3, Head: Mark{Seq: 3, Count: 0}},
	"Members":          &Members{Members: []Member{{User: "ada", Role: RoleOwner, JoinedSeq: 1}, {User: "bob", Role: RoleMember, JoinedSeq: 2}}, Next: "bob"},
	"Changed":          &Changed{Seq: 3},
	"Memberships":      &Memberships{Memberships: []Membership{{Conversation: "g.general", From: 1}, {Conversation: "g.garden", From: 2, Small: true}}},
	"Marked": &Marked{Read: Mark{Seq: 57, Count: 41}, Delivered: struct {
		Seq Seq `json:"seq"`
	}{57}},
	"Readers":                  &Readers{Read: []subjects.User{"ada"}, Delivered: []subjects.User{"ada", "bob"}},
	"Presences":                &Presences{Users: map[subjects.User]Presence{"bob": {State: StateOnline, Status: "at lunch", Devices: 2}, "cyd": {State: StateOffline, LastSeen: &at}}},
	"Identity":                 &Identity{User: "ada", Session: session, ExpiresAt: later, IssuedAt: at},
	"Verified":                 &Verified{Tokens: []VerifiedToken{{Identity: &Identity{User: "ada", Session: session, ExpiresAt: later, IssuedAt: at}}, {Error: &Error{Code: TokenExpired, Message: "The token has expired; refresh it."}}, {}}},
	"MembershipsOf":            &MembershipsOf{Users: map[subjects.User][]Membership{"ada": {{Conversation: "g.general", From: 1}}, "bob": {}}},
	"Revocations":              &Revocations{Revision: 18, Revocations: []Revocation{{User: "ada", Session: session}, {User: "bob", Before: &at}}},
	"Invited":                  &Invited{Invite: "i-5h2", ExpiresAt: later},
	"PresenceRecords":          &PresenceRecords{Users: map[subjects.User]UserRecords{"bob": {Setting: PresenceSetting{State: StateAway}, Devices: map[subjects.Device]DeviceRecord{"web-1": {Edge: "edge-1", At: at, LeftAt: &later}}}}, Leases: map[subjects.Edge]Lease{"edge-1": {Edge: "edge-1", At: at}}},
	"Receipt":                  &Receipt{Conversation: "g.garden", User: "bob", Read: 57, Delivered: 58},
	"PresenceChange":           &PresenceChange{User: "bob", State: StateOffline, LastSeen: &at},
	"Signal-event":             &Signal{Conversation: "g.general", User: "bob", Kind: "typing"},
	"Signalled":                &Signalled{Event: EventSignal, User: "bob", Data: raw(Signal{Conversation: "g.general", User: "bob", Kind: "typing"})},
	"ConversationChange":       &ConversationChange{Conversation: "g.garden", Change: ChangeConversationAdded},
	"HeadMoved":                &HeadMoved{Conversation: "g.general", Seq: 57},
	"Resync":                   &Resync{Reason: "slow consumer"},
	"SessionChange":            &SessionChange{ExpiresAt: &later},
	"SessionChange-revoked":    &SessionChange{Revoked: true},
	"Draining":                 &Draining{ReconnectAfterMS: 1500},
	"UserEvent":                &UserEvent{Change: ChangeConversationAdded, Conversation: "g.garden", From: 2, Small: true},
	"UserEvent-revoked":        &UserEvent{Change: ChangeRevoked, Revocation: &Revocation{User: "ada", Session: session}},
	"UserEvent-marks":          &UserEvent{Change: ChangeMarks, Conversation: "g.garden", Receipt: &Receipt{Conversation: "g.garden", User: "ada", Read: 57, Delivered: 57}},
	"InstanceUp":               &InstanceUp{Function: "send", Instance: "send-4k2x", Description: "Appends to conversations", Concurrency: 64, Methods: []InstanceMethod{{Name: "post", Public: true, Idempotent: true, TimeoutMS: 5000}, {Name: "append", TimeoutMS: 5000}}},
	"Kicked":                   &Kicked{Connections: 2},
	"EdgeStats":                &EdgeStats{Edge: "edge-1", Connections: 812, Users: 640, Conversations: 95},
	"InstanceBye":              &InstanceBye{Function: "send", Instance: "send-4k2x"},
	"InstanceUp-busy":          &InstanceUp{Function: "send", Instance: "send-4k2x", Concurrency: 64, Methods: []InstanceMethod{{Name: "append", TimeoutMS: 5000}}, Peak: 17, IdleMS: 230, Unit: "send-3"},
	"DeadLetter":               &DeadLetter{Function: "poll", Stream: "IM_MESSAGES_00", Sequence: 5702, Entry: &Entry{Conversation: "g.general", Seq: 57, Count: 41, Kind: KindMessage, From: "ada", At: at, ClientID: clientID}, Attempts: 10, Code: Internal, Message: "count the votes: no such poll", At: later},
	"DeadLetter-job":           &DeadLetter{Function: "poll", Stream: "IM_JOBS", Sequence: 12, Job: &DeadJob{Method: "close", ID: "poll-7", User: "ada", Device: "web-1", Session: session, Data: json.RawMessage(`{"poll":"p-7"}`)}, Attempts: 1, Code: NotFound, Message: "There is no such poll.", At: later},
	"Broken":                   &Broken{Function: "poll", Reason: "exit status 1 after 40ms, 5 times in a row", RetryAfterMS: 3200},
	"Registered":               &Registered{Function: "poll", Description: "Counts votes", Kind: "call", Concurrency: 16, Methods: []InstanceMethod{{Name: "vote", Public: true, TimeoutMS: 5000}}, Scale: InstanceScale{Max: 4, Wake: 1}, HoldMS: 5000, Events: []EntryKind{KindMessage}, Jobs: true},
	"Demand":                   &Demand{Function: "send", Caller: "k3v9q2x7mf", Held: 217, Peak: 400, OldestMS: 1250},
	"Lease":                    &Lease{Edge: "edge-1", At: at},
	"DeviceRecord":             &DeviceRecord{Edge: "edge-1", At: at},
	"Error":                    &Error{Code: RateLimited, Message: "Too many calls; wait a moment.", RetryAfterMS: 1500},
	"Problem":                  ptr(ProblemOf(&Error{Code: Forbidden, Message: "Only owners set roles."})),
	"Frame":                    &Frame{ID: json.RawMessage("7"), Call: "send.post", Data: raw(Post{Conversation: "g.general", ClientID: clientID, Body: greeting})},
	"Frame-string":             &Frame{ID: json.RawMessage(`"a-1"`), Call: CallPing, Data: json.RawMessage("{}")},
	"Frame-noid":               &Frame{Call: CallSignal, Data: raw(Signal{Conversation: "g.general", Kind: "typing"})},
	"ServerFrame-ok":           &ServerFrame{ID: json.RawMessage("7"), OK: raw(Posted{Conversation: "g.general", Seq: 57, Count: 41, At: at})},
	"ServerFrame-error":        &ServerFrame{ID: json.RawMessage("7"), Error: &Error{Code: Forbidden, Message: "Readers may not post in a channel."}},
	"ServerFrame-badframe":     &ServerFrame{Error: errScan},
	"ServerFrame-entry":        &ServerFrame{Event: EventEntry, Data: raw(message)},
	"ServerFrame-receipt":      &ServerFrame{Event: EventReceipt, Data: raw(Receipt{Conversation: "g.garden", User: "bob", Read: 57, Delivered: 58})},
	"ServerFrame-presence":     &ServerFrame{Event: EventPresence, Data: raw(PresenceChange{User: "bob", State: StateOnline})},
	"ServerFrame-signal":       &ServerFrame{Event: EventSignal, Data: raw(Signal{Conversation: "g.general", User: "bob", Kind: "typing"})},
	"ServerFrame-conversation": &ServerFrame{Event: EventConversation, Data: raw(ConversationChange{Conversation: "g.garden", Change: ChangeConversationRemoved})},
	"ServerFrame-head":         &ServerFrame{Event: EventHead, Data: raw(HeadMoved{Conversation: "g.general", Seq: 57})},
	"ServerFrame-resync":       &ServerFrame{Event: EventResync, Data: raw(Resync{Reason: "slow consumer"})},
	"ServerFrame-session":      &ServerFrame{Event: EventSession, Data: raw(SessionChange{Revoked: true})},
	"ServerFrame-draining":     &ServerFrame{Event: EventDraining, Data: raw(Draining{ReconnectAfterMS: 1500})},
}

func ptr[T any](v T) *T { return &v }
