package edge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/functions/functionstest"
	"github.com/confab-im/confab/jetstream/jetstreamtest"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// world is what an edge's tests put behind it: functions that run on a real NATS server and keep a small chat in memory, in the order of
// writes that the real ones promise. What they do is scripted; the real ones are tested behind an edge by the end-to-end suite.
type world struct {
	t      testing.TB
	server *jetstreamtest.Server
	nc     *nats.Conn // of the functions

	mu          sync.Mutex
	tokens      map[string]wire.Identity
	logs        map[subjects.Conversation][]json.RawMessage
	members     map[subjects.Conversation]map[subjects.User]wire.Seq
	groups      map[subjects.User]subjects.Conversation // a membership of each beside those, that is looked up by user
	stored      uint64
	drop        func(c subjects.Conversation, seq wire.Seq) bool // live copies that never come
	revocations []wire.Revocation
	presence    map[string][]byte
	verified    int             // tokens that auth verified
	together    []int           // how many each call asked for at once
	mute        bool            // history.check fails
	paused      map[string]bool // answers for many that are known, and not sent before the gate of that name is closed
	seen        []functions.Call
	gates       map[string]chan struct{} // echo.wait answers when the gate named in its data is closed

	instances map[subjects.Function]*functionstest.Instance
}

// newWorld returns a world with an instance of each function.
func newWorld(t testing.TB) *world {
	t.Helper()
	w := sleepingWorld(t)
	for _, f := range w.functions() {
		w.start(f)
	}
	return w
}

// sleepingWorld returns a world in which no function is up.
func sleepingWorld(t testing.TB) *world {
	t.Helper()
	w := &world{
		t: t, server: jetstreamtest.Start(t), tokens: map[string]wire.Identity{}, logs: map[subjects.Conversation][]json.RawMessage{},
		members: map[subjects.Conversation]map[subjects.User]wire.Seq{}, groups: map[subjects.User]subjects.Conversation{}, presence: map[string][]byte{}, gates: map[string]chan struct{}{},
		instances: map[subjects.Function]*functionstest.Instance{},
	}
	w.nc = w.server.Connect(t)
	w.bucket()
	return w
}

func (w *world) functions() []functions.Function {
	return []functions.Function{w.auth(), w.send(), w.history(), w.conversations(), w.presenceFunction(), w.echo()}
}

// start runs one instance of a function until the test ends, or its Stop.
func (w *world) start(f functions.Function) {
	w.t.Helper()
	w.instances[f.Name] = functionstest.RunEnv(w.t, functions.Env{NATS: w.nc, Log: quiet}, f)
}

// bucket plays the presence bucket: it keeps the newest of each key and publishes it again.
func (w *world) bucket() {
	_, err := w.nc.Subscribe(subjects.BucketSubject(subjects.BucketPresence, ">"), func(m *nats.Msg) {
		key := strings.TrimPrefix(m.Subject, subjects.BucketSubject(subjects.BucketPresence, ""))
		w.mu.Lock()
		w.presence[key] = m.Data
		w.mu.Unlock()
		_ = w.nc.Publish("im.presence."+key, m.Data)
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

// token makes a token of a user that lives for d.
func (w *world) token(user string, d time.Duration) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	session := fmt.Sprintf("session-%d", len(w.tokens))
	token := "token." + user + "." + session
	now := time.Now()
	w.tokens[token] = wire.Identity{User: subjects.User(user), Session: session, IssuedAt: wire.At(now), ExpiresAt: wire.At(now.Add(d))}
	return token
}

func (w *world) auth() functions.Function {
	return function("auth", []functions.Method{
		{Name: "login", Public: true, Anonymous: true}, {Name: "whoami", Public: true}, {Name: "logout", Public: true}, {Name: "verify"}, {Name: "verify-many"}, {Name: "revoked", Passive: true},
	}, functions.Handlers{
		"login":  functions.Handle(func(_ context.Context, c *functions.Call, _ *wire.Empty) (string, error) { return string(c.User), nil }),
		"whoami": functions.Handle(func(_ context.Context, c *functions.Call, _ *wire.Empty) (string, error) { return string(c.User), nil }),
		"logout": functions.Handle(func(ctx context.Context, c *functions.Call, _ *wire.Logout) (wire.Empty, error) {
			w.tell(c.User, wire.UserEvent{Change: wire.ChangeRevoked, Revocation: &wire.Revocation{User: c.User, Session: c.Session}})
			select { // the event overtakes the answer
			case <-w.gate("logout"):
			case <-ctx.Done():
			}
			return wire.Empty{}, nil
		}),
		"verify": functions.Handle(func(_ context.Context, _ *functions.Call, in *wire.Verify) (wire.Identity, error) {
			return w.verify(in.Token)
		}),
		"verify-many": functions.Handle(func(ctx context.Context, _ *functions.Call, in *wire.Verifications) (answer wire.Verified, err error) {
			defer w.count(ctx, "verify", len(in.Tokens))
			for _, token := range in.Tokens {
				var one wire.VerifiedToken
				id, err := w.verify(token)
				if refusal, refused := errors.AsType[*wire.Error](err); refused {
					one.Error = refusal
				} else if !strings.HasPrefix(token, "token.late") { // which are left open
					one.Identity = &id
				}
				answer.Tokens = append(answer.Tokens, one)
			}
			return answer, nil
		}),
		"revoked": functions.Handle(func(_ context.Context, _ *functions.Call, in *wire.RevocationsQuery) (wire.Revocations, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			after := min(in.After, uint64(len(w.revocations)))
			return wire.Revocations{Revision: uint64(len(w.revocations)), Revocations: w.revocations[after:]}, nil
		}),
	})
}

func (w *world) verify(token string) (wire.Identity, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.verified++
	id, ok := w.tokens[token]
	switch {
	case token == "broken":
		return id, wire.Errorf(wire.Unavailable, "Later.")
	case !ok:
		return id, wire.Errorf(wire.Unauthenticated, "Unknown token.")
	case !id.ExpiresAt.After(time.Now()):
		return id, wire.Errorf(wire.TokenExpired, "Expired.")
	}
	return id, nil
}

// count notes how many were asked for in one call, and keeps its answer back where it is paused.
func (w *world) count(ctx context.Context, name string, n int) {
	w.mu.Lock()
	w.together = append(w.together, n)
	paused := w.paused[name]
	w.mu.Unlock()
	if paused {
		select {
		case <-w.gate(name):
		case <-ctx.Done():
		}
	}
}

// append stores an entry and publishes its live copy, as the store does.
func (w *world) append(c subjects.Conversation, kind wire.EntryKind, from subjects.User, clientID string, body any) wire.Seq {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.appendLocked(c, kind, from, clientID, body)
}

func (w *world) appendLocked(c subjects.Conversation, kind wire.EntryKind, from subjects.User, clientID string, body any) wire.Seq {
	raw, err := json.Marshal(body)
	if err != nil {
		panic(err)
	}
	seq := wire.Seq(len(w.logs[c]) + 1)
	payload, err := wire.Marshal(wire.Entry{Conversation: c, Seq: seq, Kind: kind, From: from, At: wire.At(time.Now()), ClientID: clientID, Body: raw})
	if err != nil {
		panic(err)
	}
	w.logs[c] = append(w.logs[c], payload)
	w.stored++
	if w.drop == nil || !w.drop(c, seq) {
		w.live(c, seq, kind, from, payload)
	}
	return seq
}

// live publishes a live copy.
func (w *world) live(c subjects.Conversation, seq wire.Seq, kind wire.EntryKind, from subjects.User, payload []byte) {
	header := wire.EntryHeader{Seq: seq, Kind: kind, From: from}
	msg := &nats.Msg{Subject: subjects.Live(c), Header: nats.Header{subjects.HeaderEntry: {header.String()}}, Data: payload}
	if err := w.nc.PublishMsg(msg); err != nil {
		w.t.Error(err)
	}
}

// text is the body of a message.
type text struct {
	Text string `json:"text"`
}

// say appends a message.
func (w *world) say(c, from, words string) wire.Seq {
	return w.append(subjects.Conversation(c), wire.KindMessage, subjects.User(from), "", text{words})
}

// add makes a user a member: first in the log, then in the bucket, then for all to hear.
func (w *world) add(c string, user string) wire.Seq {
	id, u := subjects.Conversation(c), subjects.User(user)
	w.mu.Lock()
	seq := w.appendLocked(id, wire.KindMember, u, "", wire.MemberBody{User: u, Change: wire.ChangeAdded, Role: wire.RoleMember, By: u})
	if w.members[id] == nil {
		w.members[id] = map[subjects.User]wire.Seq{}
	}
	w.members[id][u] = seq
	w.mu.Unlock()
	w.tell(u, wire.UserEvent{Change: wire.ChangeConversationAdded, Conversation: id, From: seq})
	return seq
}

// remove ends a membership: first in the bucket, then in the log, then for all to hear.
func (w *world) remove(c string, user string) wire.Seq {
	id, u := subjects.Conversation(c), subjects.User(user)
	w.mu.Lock()
	delete(w.members[id], u)
	seq := w.appendLocked(id, wire.KindMember, u, "", wire.MemberBody{User: u, Change: wire.ChangeRemoved, By: u})
	w.mu.Unlock()
	w.tell(u, wire.UserEvent{Change: wire.ChangeConversationRemoved, Conversation: id})
	return seq
}

func (w *world) tell(u subjects.User, event wire.UserEvent) {
	body, err := wire.Marshal(event)
	if err == nil {
		err = w.nc.Publish(subjects.UserEvents(u), body)
	}
	if err != nil {
		w.t.Error(err)
	}
}

func (w *world) send() functions.Function {
	return function("send", []functions.Method{{Name: "post", Public: true, Idempotent: true, Request: wire.Post{}}, {Name: "append"}}, functions.Handlers{
		"post": functions.Handle(func(_ context.Context, call *functions.Call, in *wire.Post) (wire.Posted, error) {
			id := in.Conversation
			if in.To != "" {
				id, _ = subjects.Direct(call.User, in.To)
			}
			seq := w.append(id, wire.KindMessage, call.User, in.ClientID, in.Body)
			return wire.Posted{Conversation: id, Seq: seq}, nil
		}),
		"append": functions.Handle(func(context.Context, *functions.Call, *wire.Empty) (wire.Empty, error) { return wire.Empty{}, nil }),
	})
}

func (w *world) history() functions.Function {
	return function("history", []functions.Method{{Name: "heads", Public: true}, {Name: "heads-of"}, {Name: "check", Passive: true}, {Name: "fill"}}, functions.Handlers{
		"heads": functions.Handle(func(ctx context.Context, call *functions.Call, _ *wire.HeadsQuery) (wire.Heads, error) {
			defer w.count(ctx, "heads", 1)
			return w.heads(call.User), nil
		}),
		"heads-of": functions.Handle(func(ctx context.Context, _ *functions.Call, in *wire.HeadsOfQuery) (wire.HeadsOf, error) {
			defer w.count(ctx, "heads", len(in.Users))
			answer := wire.HeadsOf{Users: map[subjects.User]wire.Heads{}}
			for _, u := range in.Users {
				if !strings.HasPrefix(string(u), "late") {
					answer.Users[u] = w.heads(u)
				}
			}
			return answer, nil
		}),
		"check": functions.Handle(func(_ context.Context, _ *functions.Call, in *wire.HeadCheck) (wire.HeadsChecked, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			if w.mute {
				return wire.HeadsChecked{}, wire.Errorf(wire.Unavailable, "Later.")
			}
			answer := wire.HeadsChecked{Heads: map[subjects.Conversation]wire.Seq{}, Tails: make([]uint64, subjects.Partitions)}
			for i := range answer.Tails {
				answer.Tails[i] = w.stored
			}
			for id, seq := range in.Heads {
				if head := wire.Seq(len(w.logs[id])); head != seq {
					answer.Heads[id] = head
				}
			}
			return answer, nil
		}),
		"fill": functions.Handle(func(_ context.Context, _ *functions.Call, in *wire.FillQuery) (wire.Filled, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			log := w.logs[in.Conversation]
			answer := wire.Filled{Head: wire.Seq(len(log)), To: min(in.After+wire.Seq(in.Limit), wire.Seq(len(log))), Entries: []json.RawMessage{}}
			for _, payload := range log[min(in.After, answer.To):answer.To] {
				if payload != nil { // nil: erased
					answer.Entries = append(answer.Entries, payload)
				}
			}
			return answer, nil
		}),
	})
}

// heads returns a user's list, of direct conversations alone.
func (w *world) heads(u subjects.User) (answer wire.Heads) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for id, log := range w.logs {
		if _, peer := id.Peer(u); peer {
			answer.Conversations = append(answer.Conversations, wire.ConversationHead{Conversation: id, Head: wire.Head{Seq: wire.Seq(len(log))}})
		}
	}
	return answer
}

func (w *world) conversations() functions.Function {
	return function("conversations", []functions.Method{{Name: "mine"}, {Name: "memberships"}}, functions.Handlers{
		"mine": functions.Handle(func(_ context.Context, _ *functions.Call, in *wire.UserQuery) (wire.Memberships, error) {
			return wire.Memberships{Memberships: w.mine(in.User)}, nil
		}),
		"memberships": functions.Handle(func(ctx context.Context, _ *functions.Call, in *wire.MembershipsQuery) (wire.MembershipsOf, error) {
			defer w.count(ctx, "memberships", len(in.Users))
			answer := wire.MembershipsOf{Users: map[subjects.User][]wire.Membership{}}
			for _, u := range in.Users {
				if !strings.HasPrefix(string(u), "late") {
					answer.Users[u] = w.mine(u)
				}
			}
			return answer, nil
		}),
	})
}

func (w *world) mine(u subjects.User) []wire.Membership {
	w.mu.Lock()
	defer w.mu.Unlock()
	mine := []wire.Membership{}
	for id, members := range w.members {
		if from, ok := members[u]; ok {
			mine = append(mine, wire.Membership{Conversation: id, From: from})
		}
	}
	if id, ok := w.groups[u]; ok {
		mine = append(mine, wire.Membership{Conversation: id, From: 1})
	}
	return mine
}

func (w *world) presenceFunction() functions.Function {
	return function("presence", []functions.Method{{Name: "records"}}, functions.Handlers{
		"records": functions.Handle(func(_ context.Context, _ *functions.Call, in *wire.UsersQuery) (wire.PresenceRecords, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			answer := wire.PresenceRecords{Users: map[subjects.User]wire.UserRecords{}, Leases: map[subjects.Edge]wire.Lease{}}
			for _, u := range in.Users {
				answer.Users[u] = wire.UserRecords{Devices: map[subjects.Device]wire.DeviceRecord{}}
			}
			for key, data := range w.presence {
				e, u, d, err := subjects.ParsePresenceKey(key)
				records, asked := answer.Users[u]
				switch {
				case err != nil:
				case e != "":
					var l wire.Lease
					_ = json.Unmarshal(data, &l)
					answer.Leases[e] = l
				case d != "" && asked:
					var r wire.DeviceRecord
					_ = json.Unmarshal(data, &r)
					records.Devices[d] = r
				}
			}
			return answer, nil
		}),
	})
}

// echo answers with what it was called with.
func (w *world) echo() functions.Function {
	return function("echo", []functions.Method{
		{Name: "say", Public: true}, {Name: "wait", Public: true, Timeout: 20 * time.Second}, {Name: "fail", Public: true}, {Name: "secret"},
	}, functions.Handlers{
		"say": func(_ context.Context, call *functions.Call) (any, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.seen = append(w.seen, *call)
			return call.Data, nil
		},
		"wait": func(ctx context.Context, call *functions.Call) (any, error) {
			var in struct{ Gate string }
			if err := json.Unmarshal(call.Data, &in); err != nil {
				return nil, err
			}
			select {
			case <-w.gate(in.Gate):
				return call.Data, nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		},
		"fail": func(context.Context, *functions.Call) (any, error) {
			return nil, wire.RetryAfter(wire.Conflict, time.Second, "Taken.")
		},
		"secret": func(context.Context, *functions.Call) (any, error) { return "secret", nil },
	})
}

func (w *world) gate(name string) chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.gates[name] == nil {
		w.gates[name] = make(chan struct{})
	}
	return w.gates[name]
}

func function(name subjects.Function, methods []functions.Method, handlers functions.Handlers) functions.Function {
	for i := range methods {
		methods[i].Description = "scripted"
	}
	return functions.Function{Name: name, Description: "scripted", Methods: methods, New: func(context.Context, functions.Env) (functions.Handlers, error) { return handlers, nil }}
}
