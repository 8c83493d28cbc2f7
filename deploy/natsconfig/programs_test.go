package natsconfig

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/confab-im/confab/deploy/e2e"
	"github.com/confab-im/confab/deploy/edges"
	"github.com/confab-im/confab/deploy/manifest"
	"github.com/confab-im/confab/deploy/process"
	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/functions/auth"
	"github.com/confab-im/confab/functions/conversations"
	"github.com/confab-im/confab/functions/functionstest"
	"github.com/confab-im/confab/functions/history"
	"github.com/confab-im/confab/functions/presence"
	"github.com/confab-im/confab/functions/receipts"
	"github.com/confab-im/confab/functions/send"
	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/subjects/wire"
)

// TestEveryProgramWorksAsItsOwnUser runs the whole behaviour suite against programs that connect as the users of the configuration: what they need they may.
func TestEveryProgramWorksAsItsOwnUser(t *testing.T) {
	t.Parallel()
	w := start(t, "_INBOX.>") // where the suite's own operator wants answers
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for _, user := range []string{Deployer, Operator} { // the second finds all there
		if err := jetstream.Declare(ctx, w.connect(user), jetstream.Profile{}); err != nil {
			t.Fatalf("declare as %s: %v", user, err)
		}
		if err := manifest.Declare(ctx, w.connect(user), manifest.BuiltIn()); err != nil {
			t.Fatalf("register as %s: %v", user, err)
		}
	}
	for _, f := range []functions.Function{
		send.Function(send.Config{}), history.Function(history.Config{}), conversations.Function(conversations.Config{}),
		receipts.Function(receipts.Config{}), presence.Function(presence.Config{}),
		auth.Function(auth.Config{Registration: "open", Password: auth.PasswordConfig{MemoryKiB: 64, Passes: 1}}),
	} {
		functionstest.RunEnv(t, functions.Env{NATS: w.connect(string(f.Name)), Log: w.log}, f)
	}
	url := w.edge(ctx)
	w.grown(ctx, url, w.operators(ctx))
	e2e.Run(t, e2e.Target{URL: url, NATS: w.tap})
	for _, line := range w.logs.with(process.ViolationLogged) {
		t.Error(line)
	}
}

// edge runs an edge until the test ends and returns where clients connect.
func (w *world) edge(ctx context.Context) string {
	w.t.Helper()
	config := edges.DefaultConfig()
	config.Listen, config.Lifted, config.Drain = "127.0.0.1:0", "none", 0
	listener, err := config.Open()
	if err != nil {
		w.t.Fatal(err)
	}
	front, err := config.New(listener, w.connect(Edge), w.log, prometheus.NewRegistry())
	if err != nil {
		w.t.Fatal(err)
	}
	running, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- front.Run(running) }()
	w.t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			w.t.Errorf("the edge ended: %v", err)
		}
	})
	if err := edges.WaitReady(ctx, front); err != nil {
		w.t.Fatal(err)
	}
	return listener.URL()
}

// grown waits until the edge is sure which functions there are not; the suite asks for one.
func (w *world) grown(ctx context.Context, url, token string) {
	w.t.Helper()
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/v1/call/no/such", strings.NewReader("{}"))
		if err != nil {
			w.t.Fatal(err)
		}
		request.Header = http.Header{"Content-Type": {"application/json"}, "Authorization": {"Bearer " + token}}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			w.t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if err != nil {
			w.t.Fatal(err)
		}
		if strings.Contains(string(body), string(wire.UnknownCall)) {
			return
		}
		select {
		case <-ctx.Done():
			w.t.Fatalf("the edge still answers %s", body)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// operators does what the commands of operators do, and returns the token that one of them makes.
func (w *world) operators(ctx context.Context) (token string) {
	w.t.Helper()
	nc := w.connect(Operator)
	caller := functionstest.Caller(w.t, nc)
	tokens, err := functions.Invoke[wire.Issue, wire.Tokens](ctx, caller, nil, "auth", "issue", wire.Issue{User: "ada", Create: true})
	if err != nil {
		w.t.Errorf("issue as operator: %v", err)
	}
	if _, err := functions.Invoke[wire.Invite, wire.Invited](ctx, caller, nil, "auth", "invite", wire.Invite{Uses: 1}); err != nil {
		w.t.Errorf("invite as operator: %v", err)
	}
	viewer := w.connect(Viewer)
	for _, subject := range []string{
		"$SRV.INFO.im-send", "$SRV.STATS.im-history", "$JS.API.INFO", "$JS.API.STREAM.LIST", "$JS.API.STREAM.INFO.IM_MESSAGES_03",
		"$JS.API.STREAM.INFO.KV_IM_USERS", "$JS.API.DIRECT.GET.KV_IM_CONFIG.$KV.IM_CONFIG.layout",
	} {
		answer, err := viewer.Request(subject, nil, 5*time.Second)
		if err != nil || strings.Contains(answer.Header.Get("Status"), "4") || strings.Contains(string(answer.Data), `"error"`) {
			w.t.Errorf("%s as viewer: %v, %v", subject, answer, err)
		}
	}
	return tokens.Token
}
