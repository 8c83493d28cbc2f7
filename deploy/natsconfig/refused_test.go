package natsconfig

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/confab-im/confab/deploy/manifest"
	"github.com/confab-im/confab/deploy/ops"
	"github.com/confab-im/confab/deploy/process"
)

const (
	nobody       = ""
	allFunctions = "auth conversations history presence receipts send"
	callers      = allFunctions + " edge operator"
	starters     = "scaler supervisor"
	readers      = allFunctions + " operator deployer " + starters // who look at the layout of the store
	keepers      = "backup restore"                                // who read everything, to bring it back some day
	everybody    = readers + " edge viewer " + keepers
)

// publishing says, for one subject of every class, who may publish there. It is written by hand, apart from the tables that the configuration is made of.
var publishing = map[string]string{
	"im.msg.p00.g.x":  "send",
	"im.live.g.x":     "send",
	"im.signal.g.x":   "edge receipts",
	"im.user.ada":     "auth conversations receipts send",
	"im.presence.e.x": nobody,
	"im.member.x":     nobody,
	"im.config.x":     nobody,
	"im.job.send.x":   "operator",
	"im.sched.x":      nobody,
	"im.dead.send":    nobody,
	"acme.x":          nobody,

	"im.rpc.auth.login":                "edge",
	"im.rpc.auth.verify":               "edge",
	"im.rpc.auth.verify-many":          "edge",
	"im.rpc.auth.revoked":              "edge",
	"im.rpc.auth.issue":                "operator",
	"im.rpc.auth.invite":               "operator",
	"im.rpc.auth.keys":                 "operator",
	"im.rpc.send.post":                 "edge",
	"im.rpc.send.append":               "conversations",
	"im.rpc.history.page":              "edge",
	"im.rpc.history.fill":              "edge",
	"im.rpc.history.check":             "edge",
	"im.rpc.conversations.add":         "edge",
	"im.rpc.conversations.mine":        "edge",
	"im.rpc.conversations.memberships": "edge",
	"im.rpc.history.heads-of":          "edge",
	"im.rpc.conversations.enrol":       "auth",
	"im.rpc.receipts.mark":             "edge",
	"im.rpc.presence.set":              "edge",
	"im.rpc.presence.records":          "edge",
	"im.rpc.no.such":                   nobody,

	"im.scale.send.up":     "send",
	"im.scale.auth.up":     "auth",
	"im.scale.history.bye": "history supervisor",
	"im.scale.send.who":    callers + " viewer " + starters,
	"im.scale.all.who":     callers + " viewer " + starters,
	"im.scale.send.demand": callers,
	"im.scale.send.broken": starters,
	"im.call.history.page": "operator",
	"im.edge.e.drain":      "operator",
	"im.edge.e.kick":       "operator",
	"im.edge.e.stats":      "operator viewer scaler",

	"$KV.IM_USERS.ada":                     "auth",
	"$KV.IM_USERS.credential.ada":          "auth",
	"$KV.IM_USERS.identity.x":              "auth",
	"$KV.IM_USERS.presence.ada":            "presence",
	"$KV.IM_CONVERSATIONS.g.x":             "conversations",
	"$KV.IM_MEMBERS.c.g.x.ada":             "conversations",
	"$KV.IM_MEMBERS.u.ada.d.ada.bob":       "conversations send",
	"$KV.IM_CURSORS.u.ada.g.x":             "conversations receipts send",
	"$KV.IM_CURSORS.c.g.x.ada":             nobody,
	"$KV.IM_AMENDS.g.x.0":                  "send",
	"$KV.IM_PAGES.g.x.0":                   "history",
	"$KV.IM_PRESENCE.u.ada":                "presence",
	"$KV.IM_PRESENCE.e.x":                  "edge",
	"$KV.IM_PRESENCE.s.ada.web":            "edge",
	"$KV.IM_SESSIONS.session.ada.x":        "auth",
	"$KV.IM_SESSIONS.revoked.ada":          "auth",
	"$KV.IM_SESSIONS.key.x":                "auth",
	"$KV.IM_SESSIONS.invite.x":             "auth",
	"$KV.IM_CONFIG.layout":                 "deployer operator restore",
	"$KV.IM_CONFIG.setting.functions.send": "deployer operator restore",
	"$KV.IM_CONFIG.setting.x":              nobody,

	"$JS.API.STREAM.MSG.GET.IM_MESSAGES_07":                      "conversations history receipts send viewer " + keepers,
	"$JS.API.DIRECT.GET.IM_MESSAGES_07":                          "conversations history receipts send viewer " + keepers,
	"$JS.API.DIRECT.GET.IM_MESSAGES_07.im.msg.p07.g.x":           "conversations history receipts send viewer " + keepers,
	"$JS.API.STREAM.MSG.GET.KV_IM_MEMBERS":                       "conversations history receipts send viewer " + keepers,
	"$JS.API.STREAM.MSG.GET.KV_IM_AMENDS":                        "history receipts send viewer " + keepers,
	"$JS.API.STREAM.MSG.GET.KV_IM_PAGES":                         "history send viewer " + keepers,
	"$JS.API.STREAM.MSG.GET.KV_IM_PRESENCE":                      "presence viewer " + keepers,
	"$JS.API.STREAM.MSG.GET.KV_IM_CONFIG":                        readers + " viewer " + keepers,
	"$JS.API.STREAM.MSG.GET.KV_IM_USERS":                         "auth conversations history presence send " + keepers,
	"$JS.API.DIRECT.GET.KV_IM_USERS":                             "auth conversations history presence send " + keepers,
	"$JS.API.DIRECT.GET.KV_IM_USERS.$KV.IM_USERS.ada":            "auth conversations history presence send " + keepers,
	"$JS.API.DIRECT.GET.KV_IM_USERS.$KV.IM_USERS.>":              "auth conversations history presence send " + keepers, // a server would give the newest credential
	"$JS.API.DIRECT.GET.KV_IM_SESSIONS.>":                        "auth " + keepers,
	"$JS.API.DIRECT.GET.>":                                       nobody,
	"$JS.API.STREAM.MSG.GET.*":                                   nobody,
	"$JS.API.STREAM.INFO.KV_IM_USERS":                            "auth conversations history presence send deployer operator viewer " + keepers,
	"$JS.API.DIRECT.GET.KV_IM_USERS.$KV.IM_USERS.credential.ada": "auth conversations history presence send " + keepers,
	"$JS.API.STREAM.MSG.GET.KV_IM_SESSIONS":                      "auth " + keepers,
	"$JS.API.DIRECT.GET.KV_IM_SESSIONS":                          "auth " + keepers,
	"$JS.API.DIRECT.GET.KV_IM_SESSIONS.$KV.IM_SESSIONS.key.x":    "auth " + keepers,
	"$JS.API.STREAM.INFO.KV_IM_SESSIONS":                         "auth edge deployer operator " + keepers,
	"$JS.API.STREAM.INFO.IM_MESSAGES_00":                         "conversations edge history receipts send deployer operator viewer " + keepers,
	"$JS.API.STREAM.INFO.KV_IM_CURSORS":                          "history conversations receipts send deployer operator viewer " + keepers,
	"$JS.API.STREAM.MSG.DELETE.IM_MESSAGES_00":                   "send",
	"$JS.API.STREAM.MSG.DELETE.KV_IM_MEMBERS":                    "conversations",
	"$JS.API.STREAM.MSG.DELETE.KV_IM_PAGES":                      "history send",
	"$JS.API.STREAM.PURGE.KV_IM_PAGES":                           nobody,
	"$JS.API.STREAM.PURGE.KV_IM_CURSORS":                         "deployer operator restore", // what earlier builds left there
	"$JS.API.STREAM.MSG.DELETE.KV_IM_USERS":                      nobody,
	"$JS.API.STREAM.CREATE.IM_MESSAGES_00":                       "deployer operator restore",
	"$JS.API.STREAM.UPDATE.KV_IM_USERS":                          "deployer operator restore",
	"$JS.API.STREAM.CREATE.OTHER":                                nobody,
	"$JS.API.STREAM.DELETE.IM_MESSAGES_00":                       "restore",
	"$JS.API.STREAM.PURGE.IM_MESSAGES_00":                        nobody,
	"$JS.API.STREAM.SNAPSHOT.KV_IM_SESSIONS":                     "backup",
	"$JS.API.STREAM.RESTORE.IM_MESSAGES_00":                      "restore",
	"$JS.SNAPSHOT.ACK.IM_MESSAGES_00.x.131072.1":                 "backup",
	"$JS.SNAPSHOT.RESTORE.KV_IM_USERS.x":                         "restore",
	"$JS.SNAPSHOT.RESTORE.OTHER.x":                               nobody,
	"$JS.API.STREAM.RESTORE.OTHER":                               nobody,
	"$JS.API.CONSUMER.CREATE.IM_MESSAGES_00.c":                   "deployer operator",
	"$JS.API.CONSUMER.CREATE.IM_JOBS.c.im.job.c.>":               "deployer operator",
	"$JS.API.CONSUMER.CREATE.IM_DEADLETTERS.c":                   nobody,
	"$JS.API.CONSUMER.MSG.NEXT.IM_MESSAGES_00.c":                 nobody,
	"$JS.ACK.IM_MESSAGES_00.c.1.1.1.1.1":                         nobody,
	"$JS.API.STREAM.MSG.DELETE.IM_DEADLETTERS":                   "operator",
	"$JS.API.CONSUMER.CREATE.KV_IM_SESSIONS.c.$KV.IM_SESSIONS.>": nobody,
	"$JS.API.CONSUMER.DURABLE.CREATE.IM_MESSAGES_00.c":           nobody,
	"$JS.API.CONSUMER.LIST.IM_MESSAGES_00":                       "deployer operator viewer " + starters,
	"$JS.API.CONSUMER.INFO.IM_MESSAGES_00.x":                     "deployer operator viewer " + starters,
	"$JS.API.CONSUMER.INFO.IM_JOBS.x":                            "deployer operator viewer " + starters,
	"$JS.API.CONSUMER.LIST.KV_IM_CURSORS":                        "operator viewer",
	"$JS.API.CONSUMER.DELETE.IM_MESSAGES_00.x":                   "operator",
	"$JS.API.STREAM.LEADER.STEPDOWN.IM_JOBS":                     nobody,
	"$JS.API.DIRECT.GET.KV_IM_CONFIG":                            readers + " edge" + " viewer " + keepers,
	"$JS.API.CONSUMER.LIST.KV_IM_SESSIONS":                       "operator",
	"$JS.API.STREAM.LIST":                                        "viewer",
	"$JS.API.ACCOUNT.PURGE.CONFAB":                               nobody,
	"$SRV.PING":                                                  "operator viewer",
	"$SRV.STATS.im-send":                                         "operator viewer",
	"$SYS.REQ.SERVER.PING":                                       nobody,
	"_INBOX.x":                                                   nobody,
	"_INBOX_edge.x":                                              allFunctions,
	"_INBOX_auth.x":                                              "conversations",
	"_INBOX_conversations.x":                                     "send",
	"_INBOX_viewer.x":                                            nobody,
	"_R_.a.b":                                                    allFunctions + " edge", // where the server wants answers to viewers
	"_R_.a.b.c":                                                  nobody,
	"_R_.api.STREAM.DELETE.IM_JOBS":                              "restore", // where its own requests go
	"_api.STREAM.DELETE.IM_JOBS":                                 nobody,
	"_INBOX_operator.x":                                          allFunctions + " edge",
	"_INBOX_scaler.x":                                            "edge", // how many connections it has
	"_INBOX_send.x":                                              nobody, // it calls nobody
}

// subscribing says the same of subscriptions; what stands behind a space is a queue group.
var subscribing = map[string]string{
	">":                         nobody,
	"im.>":                      nobody,
	"*.>":                       nobody,
	"_INBOX.>":                  "viewer", // in an account of its own: see TestAViewerReadsNobodysAnswers
	"_INBOX.x.*":                "viewer",
	"*.x":                       nobody,
	"$JS.>":                     nobody,
	"$KV.>":                     nobody,
	"$KV.IM_SESSIONS.>":         nobody,
	"$SYS.>":                    nobody,
	"im.msg.>":                  nobody,
	"im.msg.p00.g.x":            nobody,
	"im.member.>":               nobody,
	"im.config.>":               nobody,
	"im.job.>":                  starters,
	"im.dead.>":                 nobody,
	"im.rpc.>":                  nobody,
	"im.rpc.send.post":          nobody, // outside of the queue group it would see what others answer
	"im.rpc.send.post im-send":  "send",
	"im.rpc.send.post im-other": nobody,
	"im.rpc.auth.login im-auth": "auth",
	"im.live.>":                 "edge send viewer " + starters,
	"im.live.g.x":               "edge send viewer " + starters,
	"im.signal.>":               "edge",
	"im.user.ada":               "edge",
	"im.user.>":                 "edge", // a server takes the > for a token that * allows; nothing of ours is deeper
	"im.presence.>":             "edge viewer",
	"im.presence.e.*":           "edge viewer scaler",
	"im.scale.*.up":             callers + " viewer " + starters,
	"im.scale.*.bye":            callers + " viewer " + starters,
	"im.scale.send.who":         "send operator viewer " + starters,
	"im.scale.all.who":          allFunctions + " operator viewer " + starters,
	"im.scale.>":                "operator viewer " + starters,
	"im.scale.*.broken":         callers + " viewer " + starters,
	"im.scale.*.demand":         "operator viewer " + starters,
	"im.config.functions.*":     callers + " viewer " + starters,
	"im.call.*.*":               nobody,
	"im.call.*.* im-call":       "edge",
	"im.edge.e.drain":           "edge",
	"$SRV.PING":                 allFunctions,
	"$SRV.INFO.im-send":         "send",
	"$SRV.STATS.im-send.x":      "send",
	"$SRV.>":                    nobody,
}

func TestWhatIsNotNeededIsRefused(t *testing.T) {
	t.Parallel()
	w := start(t)
	for user := range strings.FieldsSeq(everybody) {
		t.Run(user, func(t *testing.T) {
			nc := w.connect(user)
			for subject, who := range publishing {
				may := slices.Contains(strings.Fields(who), user)
				if got := w.allowed(nc, subject, nc.Publish(subject, nil)); got != may {
					t.Errorf("publish to %s: allowed %v, want %v", subject, got, may)
				}
			}
			for name, who := range subscribing {
				may := slices.Contains(strings.Fields(who), user)
				if got := w.subscribes(nc, name); got != may {
					t.Errorf("subscribe to %s: allowed %v, want %v", name, got, may)
				}
			}
			for owner := range strings.FieldsSeq(everybody) {
				if got := w.subscribes(nc, "_INBOX_"+owner+".x.*"); got != (owner == user) {
					t.Errorf("read the inboxes of %s: %v", owner, got)
				}
			}
		})
	}
}

func (w *world) subscribes(nc *nats.Conn, name string) bool {
	subject, queue, _ := strings.Cut(name, " ")
	sub, err := nc.QueueSubscribeSync(subject, queue)
	allowed := w.allowed(nc, subject, err)
	if err == nil {
		_ = sub.Unsubscribe() // refused ones are gone already
	}
	return allowed
}

// allowed waits until the server has answered, and reports whether it had nothing against the subject, as it sees it. The library keeps the newest
// refusal only, and the server sends it before the answer to the flush.
func (w *world) allowed(nc *nats.Conn, subject string, err error) bool {
	w.t.Helper()
	if err == nil {
		err = nc.FlushTimeout(patience)
	}
	if err != nil {
		w.t.Fatalf("%s: %v", subject, err)
	}
	refusal := nc.LastError()
	if w.refusals[nc] == refusal { // an older one
		return true
	}
	w.refusals[nc] = refusal
	refused := func(subject string) bool { return strings.Contains(refusal.Error(), fmt.Sprintf("%q", subject)) }
	return !errors.Is(refusal, nats.ErrPermissionViolation) || !refused(subject) && !refused(seen(Account, subject)) && !refused(seen(Viewers, subject))
}

func TestARefusalIsLoggedAsAnError(t *testing.T) {
	w := start(t)
	nc := w.connect("history")
	if err := nc.Publish("im.msg.p00.g.x", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := nc.SubscribeSync("_INBOX.>"); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(patience); len(w.logs.with(process.ViolationLogged)) < 2; {
		if time.Now().After(deadline) {
			t.Fatalf("the log has %q", w.logs.with(""))
		}
		<-time.After(time.Millisecond)
	}
	if n := w.violations.Count(); n != 2 {
		t.Errorf("%d were counted", n)
	}
	registry := prometheus.NewRegistry()
	ops.OwnViolations(registry, "history", w.violations.Count)
	if found, err := registry.Gather(); err != nil || len(found) != 1 || found[0].GetMetric()[0].GetCounter().GetValue() != 2 {
		t.Errorf("the metrics are %v, %v", found, err)
	}
	for _, line := range w.logs.with(process.ViolationLogged) {
		if !strings.Contains(line, "level=ERROR") || !strings.Contains(line, "nats-user=history") ||
			!strings.Contains(line, "im.msg.p00.g.x") && !strings.Contains(line, "_INBOX.>") {
			t.Errorf("the log says %s", line)
		}
	}
}

// TestACallCannotMakeAFunctionPublishElsewhere would fail with answers allowed to whatever subject a request names.
func TestACallCannotMakeAFunctionPublishElsewhere(t *testing.T) {
	w := start(t)
	function, edge, tap := w.connect("history"), w.connect(Edge), w.connect(Viewer)
	_, err := function.QueueSubscribe("im.rpc.history.page", "im-history", func(m *nats.Msg) { _ = m.Respond([]byte("{}")) })
	if err != nil {
		t.Fatal(err)
	}
	live, err := tap.SubscribeSync("im.live.>")
	if err != nil {
		t.Fatal(err)
	}
	for _, nc := range []*nats.Conn{function, tap} {
		if err := nc.FlushTimeout(patience); err != nil {
			t.Fatal(err)
		}
	}
	if err := edge.PublishRequest("im.rpc.history.page", "im.live.g.x", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := edge.Request("im.rpc.history.page", nil, patience); err != nil {
		t.Fatalf("an edge is not answered: %v", err)
	}
	// The answers are published in the order of the calls, so the first has been refused by now.
	if w.allowed(function, "im.live.g.x", nil) {
		t.Error("the function may publish its answer where nobody calls from")
	}
	if n, _, err := live.Pending(); n != 0 || err != nil {
		t.Errorf("%d messages came (%v)", n, err)
	}
}

func TestNobodyConnectsWithoutAKey(t *testing.T) {
	w := start(t)
	if _, err := nats.Connect(w.url); !errors.Is(err, nats.ErrAuthorization) {
		t.Errorf("a connection without a key: %v", err)
	}
}

func TestAManifestGetsNoMoreThanItNames(t *testing.T) {
	for name, change := range map[string]func(m *manifest.Manifest){
		"confab's own subjects": func(m *manifest.Manifest) { m.NATS.Publish = []string{"im.msg.>"} },
		"everything":            func(m *manifest.Manifest) { m.NATS.Subscribe = []string{">"} },
		"a leading wildcard":    func(m *manifest.Manifest) { m.NATS.Subscribe = []string{"*.msg.>"} },
		"JetStream":             func(m *manifest.Manifest) { m.NATS.Publish = []string{"$JS.API.>"} },
		"inboxes":               func(m *manifest.Manifest) { m.NATS.Subscribe = []string{"_INBOX.>"} },
		"a queue group":         func(m *manifest.Manifest) { m.NATS.Subscribe = []string{"acme.x im-send"} },
		"an unknown class":      func(m *manifest.Manifest) { m.NATS.Write = []string{"everything"} },
		"an unknown stream":     func(m *manifest.Manifest) { m.NATS.Read = []string{"secrets"} },
		"erasing nothing known": func(m *manifest.Manifest) { m.NATS.Erase = []string{"x"} },
		"a call of no method":   func(m *manifest.Manifest) { m.NATS.Calls = []string{"send.nothing"} },
		"another's name":        func(m *manifest.Manifest) { m.Function = "viewer" },
	} {
		all := manifest.BuiltIn()
		change(&all[2])
		if _, err := Users(all); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	all := manifest.BuiltIn()
	all[2].NATS.Publish = []string{"acme.orders.>", "acme.*.x"}
	if _, err := Users(all); err != nil {
		t.Errorf("subjects of another system: %v", err)
	}
}
