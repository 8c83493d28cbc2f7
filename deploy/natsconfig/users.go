// Package natsconfig says what each program of confab may do on NATS, and writes it as the configuration of a nats-server: an account, and in it a user with a
// key of its own for every function, the edge, the scaler, the supervisor, the deployer and the operator; a viewer has an account of its own. What a function may
// do follows from its manifest.
//
// Permissions are lists of what is allowed; nothing else is. Every user has inboxes of its own that no other user may read.
package natsconfig

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/nats-io/nats.go/micro"

	"github.com/confab-im/confab/deploy/manifest"
	"github.com/confab-im/confab/subjects"
)

// The users that are no functions.
const (
	Edge       = "edge"       // every edge
	Scaler     = "scaler"     // says how many instances of each function there should be
	Supervisor = "supervisor" // starts instances on one machine
	Deployer   = "deployer"   // confab declare
	Operator   = "operator"   // confab declare, token, invite and functions, calls through edges, and requests to edges
	Viewer     = "viewer"     // looks at everything but secrets, and changes nothing
	Backup     = "backup"     // confab backup: reads everything, and changes nothing
	Restore    = "restore"    // confab restore: makes the streams out of a backup
	Admin      = "admin"      // may do everything; only WithAdmin makes it
)

// others is the users that are no functions.
var others = []string{Edge, Scaler, Supervisor, Deployer, Operator, Viewer, Backup, Restore, Admin}

// User is a user of a NATS server and what it may do.
type User struct {
	Name      string
	Account   string   // Account, or Viewers
	Publish   []string // subjects and patterns, in alphabetical order; all others are refused
	Subscribe []string // likewise; one with a space and a name behind it is for members of that queue group
}

// edgeCalls is what edges call for themselves, beside what clients may call.
var edgeCalls = []string{
	"auth.verify", "auth.verify-many", "auth.revoked", "history.heads-of", "history.check", "history.fill", "conversations.mine", "conversations.memberships", "presence.records",
}

// operatorCalls is what the commands of operators call.
var operatorCalls = []string{"auth.issue", "auth.invite", "auth.keys"}

// Users returns a user for each manifest and for each program that is no function, or an error that names what a manifest has wrong.
func Users(manifests []manifest.Manifest) ([]User, error) {
	t := table{callers: map[subjects.Function][]string{}, methods: map[string]bool{}, taken: map[string]bool{}}
	for _, name := range others {
		t.taken[name] = true
	}
	for _, m := range manifests {
		if t.taken[string(m.Function)] {
			return nil, fmt.Errorf("manifest of %q: another user has that name", m.Function)
		}
		t.taken[string(m.Function)] = true
		for name, method := range m.Methods {
			t.methods[string(m.Function)+"."+string(name)] = method.Public
		}
		for _, call := range m.NATS.Calls {
			if f, _, err := subjects.ParseCall(call); err == nil {
				t.callers[f] = append(t.callers[f], string(m.Function))
			}
		}
	}
	for _, m := range manifests {
		if err := t.addFunction(m); err != nil {
			return nil, fmt.Errorf("manifest of %q: nats: %w", m.Function, err)
		}
	}
	for _, add := range []func() error{t.addEdge, t.addStarters, t.addDeployer, t.addOperator, t.addViewer, t.addKeepers} {
		if err := add(); err != nil {
			return nil, err
		}
	}
	return t.users, nil
}

// inboxes returns the patterns of all inboxes of users, for who answers them. The server could allow an answer to whatever subject a request names (allow_responses);
// then who may call a function could make it publish anywhere, in the log of a conversation for one.
func inboxes(users ...string) []string {
	all := make([]string, len(users))
	for i, user := range users {
		all[i] = subjects.InboxPrefix(user) + ".>"
	}
	return all
}

// table is the users so far.
type table struct {
	callers map[subjects.Function][]string // the functions that call a function
	methods map[string]bool                // <function>.<method>; true for those that clients may call
	taken   map[string]bool                // names of users
	relayed []string                       // the functions for which edges pass calls on
	users   []User
}

// add completes a user with its account and its inboxes, and sorts its lists.
func (t *table) add(u User) {
	u.Account = cmp.Or(u.Account, Account)
	u.Subscribe = append(u.Subscribe, inboxes(u.Name)...)
	for _, list := range []*[]string{&u.Publish, &u.Subscribe} {
		slices.Sort(*list)
		*list = slices.Compact(*list)
	}
	t.users = append(t.users, u)
}

func (t *table) addFunction(m manifest.Manifest) error {
	u := User{Name: string(m.Function), Publish: append(inboxes(append(t.callers[m.Function], Edge, Operator)...), answersToViewers)}
	for _, need := range []func() (publish, subscribe []string){func() ([]string, []string) { return instance(m.Function) }, caller} {
		publish, subscribe := need()
		u.Publish, u.Subscribe = append(u.Publish, publish...), append(u.Subscribe, subscribe...)
	}
	p := m.NATS
	for _, part := range []struct {
		of   func([]string) ([]string, error)
		from []string
		to   *[]string
	}{
		{t.callsOf, p.Calls, &u.Publish},
		{saidOf, p.Publish, &u.Publish},
		{saidOf, p.Subscribe, &u.Subscribe},
		{readsOf, append([]string{"config"}, p.Read...), &u.Publish}, // every function looks at the layout of the store
		{writesOf, p.Write, &u.Publish},
		{erasesOf, p.Erase, &u.Publish},
	} {
		found, err := part.of(part.from)
		if err != nil {
			return err
		}
		*part.to = append(*part.to, found...)
	}
	u.Publish = append(u.Publish, working(m)...)
	if relayed := t.relayedOf(p.Calls); len(relayed) > 0 {
		u.Publish = append(u.Publish, relayed...)
		t.relayed = append(t.relayed, u.Name)
	}
	t.add(u)
	return nil
}

// instance returns what every instance of a function needs: calls come to its queue group alone, and the micro service answers operators.
func instance(f subjects.Function) (publish, subscribe []string) {
	service := subjects.Service(f)
	publish = []string{subjects.Scale(f, subjects.Up), subjects.Scale(f, subjects.Bye)}
	subscribe = []string{subjects.RPC(f, "*") + " " + service, subjects.Scale(f, subjects.Who), subjects.Scale(subjects.Everyone, subjects.Who)}
	for _, verb := range []micro.Verb{micro.PingVerb, micro.InfoVerb, micro.StatsVerb} {
		for _, of := range [][2]string{{"", ""}, {service, ""}, {service, "*"}} {
			subject, err := micro.ControlSubject(verb, of[0], of[1])
			if err != nil {
				panic(err) // the verbs are the library's own
			}
			subscribe = append(subscribe, subject)
		}
	}
	return publish, subscribe
}

// caller returns what everybody needs who calls functions: to hear who is up, and to read what is registered of those that sleep.
func caller() (publish, subscribe []string) {
	publish = []string{subjects.AllOf(subjects.Who), subjects.AllOf(subjects.Demand), subjects.DirectRead(subjects.BucketStream(subjects.BucketConfig))}
	return publish, []string{subjects.AllOf(subjects.Up), subjects.AllOf(subjects.Bye), subjects.AllOf(subjects.Broken), subjects.AllRegistered}
}

// callsOf returns the subjects of calls, which must exist.
func (t *table) callsOf(calls []string) ([]string, error) {
	var all []string
	for _, call := range calls {
		f, m, err := subjects.ParseCall(call)
		if err != nil {
			return nil, err
		}
		if _, ok := t.methods[call]; !ok {
			return nil, fmt.Errorf("calls: no manifest has %s", call)
		}
		all = append(all, subjects.RPC(f, m))
	}
	return all, nil
}

// relayedOf returns the subjects on which edges pass calls on: those of methods that edges may call anyway. A function in a language that has no Caller asks
// there.
func (t *table) relayedOf(calls []string) []string {
	var all []string
	for _, call := range calls {
		if f, m, err := subjects.ParseCall(call); err == nil && t.methods[call] {
			all = append(all, subjects.Relayed(f, m))
		}
	}
	return all
}

func (t *table) addEdge() error {
	calls := slices.Clone(edgeCalls)
	for call, public := range t.methods {
		if public {
			calls = append(calls, call)
		}
	}
	rpc, err := t.callsOf(calls)
	if err != nil {
		return err
	}
	publish, subscribe := caller()
	for _, stream := range append(messageStreams(), stored["sessions"]...) {
		publish = append(publish, subjects.StreamInfo(stream)) // where their tails are, and the names of their subjects; not what is in them
	}
	t.add(User{
		Name:      Edge,
		Publish:   append(append(append(publish, rpc...), inboxes(append(t.relayed, Operator, Scaler)...)...), answersToViewers, subjects.AllSignals, records["leases"], records["devices"]),
		Subscribe: append(subscribe, subjects.AllLive, subjects.AllSignals, subjects.AllUserEvents, subjects.AllPresence, subjects.AllEdges, subjects.AllCalls+" "+subjects.RelayQueue),
	})
	return nil
}

// addStarters adds those who start instances: they hear what callers and instances say and look at what waits, and tell callers what does not start. The scaler
// also asks edges for how many connections they have.
func (t *table) addStarters() error {
	publish := append(reads(subjects.BucketStream(subjects.BucketConfig)), subjects.AllOf(subjects.Who), subjects.AllOf(subjects.Broken))
	for _, stream := range append(messageStreams(), subjects.StreamJobs) {
		publish = append(publish, subjects.ConsumerReads(stream)...)
	}
	for _, name := range []string{Scaler, Supervisor} {
		// Entries and jobs are heard, and not read, to find out at once that something waits.
		u := User{Name: name, Publish: slices.Clone(publish), Subscribe: []string{subjects.AllScale, subjects.AllRegistered, subjects.AllLive, subjects.AllJobs}}
		switch name {
		case Scaler:
			u.Publish, u.Subscribe = append(u.Publish, subjects.EdgeRequest("*", subjects.EdgeStats)), append(u.Subscribe, subjects.AllLeases)
		case Supervisor:
			u.Publish = append(u.Publish, subjects.AllOf(subjects.Bye)) // in the place of instances that were killed
		}
		t.add(u)
	}
	return nil
}

// declaring returns what confab declare publishes: whoever may make streams decides what they store, so this is a powerful user.
func declaring() []string {
	publish := append(reads(subjects.BucketStream(subjects.BucketConfig)), records["layout"], records["registry"], subjects.AccountInfo, subjects.StreamNames)
	for _, stream := range everyStream() {
		publish = append(publish, subjects.CreateStream(stream), subjects.UpdateStream(stream), subjects.StreamInfo(stream))
	}
	// What earlier builds left there. Whoever may change what a stream keeps can empty it anyway.
	return append(publish, subjects.PurgeStream(subjects.BucketStream(subjects.BucketCursors)))
}

func (t *table) addDeployer() error {
	t.add(User{Name: Deployer, Publish: append(declaring(), supplying(false)...)})
	return nil
}

func (t *table) addOperator() error {
	calls, err := t.callsOf(operatorCalls)
	if err != nil {
		return err
	}
	publish, subscribe := caller()
	publish = append(append(append(append(publish, declaring()...), supplying(true)...), reviving()...), calls...)
	for _, stream := range everyStream() {
		publish = append(publish, subjects.ConsumerReads(stream)...)
	}
	t.add(User{
		Name:      Operator,
		Publish:   append(publish, subjects.AllCalls, subjects.AllEdges, micro.APIPrefix+".>"),
		Subscribe: append(subscribe, subjects.AllScale),
	})
	return nil
}

// addViewer leaves out consumers, also those for one look: where a consumer delivers is its maker's choice, so making one is a way to publish anywhere. It leaves
// out profiles too, since credentials stand beside them: leave to read profiles by their subject, which ends in *, is leave to read the last record under >.
func (t *table) addViewer() error {
	publish := []string{
		subjects.AccountInfo, subjects.StreamNames, subjects.StreamList, micro.APIPrefix + ".>",
		subjects.EdgeRequest("*", subjects.EdgeStats), subjects.AllOf(subjects.Who),
		subjects.StreamInfo(subjects.BucketStream(subjects.BucketUsers)),
	}
	secret := []string{subjects.BucketStream(subjects.BucketUsers), subjects.BucketStream(subjects.BucketSessions)}
	for _, stream := range everyStream() {
		if !slices.Contains(secret, stream) {
			publish = append(append(publish, reads(stream)...), subjects.ConsumerReads(stream)...)
		}
	}
	t.add(User{
		Name: Viewer, Account: Viewers, Publish: publish,
		// Other viewers' inboxes hold nothing that they could not ask for themselves, and the tool nats then needs no setting.
		Subscribe: []string{subjects.AllLive, subjects.AllPresence, subjects.AllScale, subjects.AllRegistered, anyInbox},
	})
	return nil
}

// addKeepers adds those who copy everything and bring it back. Both read everything, the credentials and keys among it. Whoever restores makes streams and deletes
// those of a restore that failed, so it is as powerful as whoever declares them.
func (t *table) addKeepers() error {
	backup, restore := User{Name: Backup}, User{Name: Restore, Publish: append(declaring(), subjects.StreamNames)}
	for _, stream := range everyStream() {
		both := reads(stream)
		backup.Publish = append(append(backup.Publish, both...), subjects.SnapshotStream(stream), subjects.SnapshotAcks(stream))
		restore.Publish = append(append(restore.Publish, both...), subjects.RestoreStream(stream), subjects.RestoreChunks(stream), subjects.DeleteStream(stream))
	}
	t.add(backup)
	t.add(restore)
	return nil
}

// WithAdmin returns the users and one more who may do everything, for people who keep a server on their own machine. Those who answer operators
// may answer it, wherever it wants answers.
func WithAdmin(users []User) []User {
	all := make([]User, 0, len(users)+1)
	operator := inboxes(Operator)[0]
	for _, u := range users {
		if slices.Contains(u.Publish, operator) {
			u.Publish = append(slices.Clone(u.Publish), append(inboxes(Admin), anyInbox)...)
		}
		all = append(all, u)
	}
	return append(all, User{Name: Admin, Account: Account, Publish: []string{everything}, Subscribe: []string{everything}})
}
