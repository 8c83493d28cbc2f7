package auth_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/functions/auth"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

func TestSpentRefreshTokenEndsItsSession(t *testing.T) {
	w := newWorld(t)
	w.conversations()
	w.start(auth.Config{})
	stolen := w.mustRegister("ada")
	next, err := w.refresh(stolen.RefreshToken)
	if err != nil {
		t.Fatal(err)
	}
	for name, token := range map[string]string{
		"no token of ours": "x", "a guess": "ada." + strings.Repeat("a", 26) + ".x.y", "a pattern": "*.>.a.b",
		"another family": strings.Replace(next.RefreshToken, ".", ".a", 1),
	} {
		_, err := w.refresh(token)
		w.expect(name, wire.Unauthenticated, err)
	}
	w.identity(next.Token)
	revoked := subscribe(t, w.nc, "ada")
	_, err = w.refresh(stolen.RefreshToken)
	w.expect("the spent token", wire.Unauthenticated, err)
	_, err = w.refresh(next.RefreshToken)
	w.expect("the newest token of its session", wire.Unauthenticated, err)
	_, err = w.verify(next.Token)
	w.expect("a token that the session gave", wire.Unauthenticated, err)
	if event := revoked(); event.Change != wire.ChangeRevoked || event.Revocation.User != "ada" || event.Revocation.Session == "" {
		t.Errorf("event %+v", event)
	}
	w.identity(w.mustLogin("ada").Token)
}

// subscribe returns a function that waits for the next event of a user.
func subscribe(t *testing.T, nc *nats.Conn, user subjects.User) func() wire.UserEvent {
	sub, err := nc.SubscribeSync(subjects.UserEvents(user))
	if err != nil {
		t.Fatal(err)
	}
	return func() (event wire.UserEvent) {
		t.Helper()
		msg, err := sub.NextMsg(10 * time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(msg.Data, &event); err != nil {
			t.Fatal(err)
		}
		return event
	}
}

func TestOfManyRefreshesOneWins(t *testing.T) {
	w := newWorld(t)
	w.conversations()
	w.start(auth.Config{})
	w.start(auth.Config{})
	for i := range 5 {
		tokens := w.mustRegister(subjects.User(fmt.Sprint("ada", i)))
		var wins atomic.Int32
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				_, err := w.refresh(tokens.RefreshToken)
				if err == nil {
					wins.Add(1)
				} else {
					w.expect("a refresh that lost", wire.Unauthenticated, err)
				}
			})
		}
		wg.Wait()
		// The others used a spent token, so the session may have ended before the winner was done: never more than one wins.
		if wins.Load() > 1 {
			t.Errorf("%d refreshes won", wins.Load())
		}
		w.mustLogin(tokens.User)
	}
}

// TestLogoutHoldsOnEveryInstance asks other instances at the very moment that a logout is answered.
func TestLogoutHoldsOnEveryInstance(t *testing.T) {
	w := newWorld(t)
	w.conversations()
	for range 3 {
		w.start(auth.Config{})
	}
	tokens := w.mustRegister("ada")
	for i := range 20 {
		identity := w.identity(tokens.Token)
		in := wire.Logout{}
		if i%2 == 1 {
			in.All = true
		}
		w.expect("logout", "", w.logout(identity, in))
		var wg sync.WaitGroup
		for range 6 {
			wg.Go(func() {
				_, err := w.verify(tokens.Token)
				w.expect("verify after logout", wire.Unauthenticated, err)
			})
		}
		wg.Wait()
		tokens = w.mustLogin("ada")
	}
}

func TestLogoutOfOtherSessions(t *testing.T) {
	w := newWorld(t)
	w.conversations()
	w.start(auth.Config{})
	a, b, c := w.mustRegister("ada"), w.mustLogin("ada"), w.mustLogin("ada")
	other := w.mustRegister("bob")
	first, second := w.identity(a.Token), w.identity(b.Token)
	w.expect("another session of one's own", "", w.logout(first, wire.Logout{Session: second.Session}))
	_, err := w.verify(b.Token)
	w.expect("its token", wire.Unauthenticated, err)
	w.identity(a.Token)
	for name, in := range map[string]wire.Logout{
		"somebody else's session":  {Session: w.identity(other.Token).Session},
		"a session that never was": {Session: "0123456789"},
		"a pattern":                {Session: "*"},
	} {
		w.expect(name, wire.NotFound, w.logout(first, in))
	}
	w.identity(other.Token)

	revoked := subscribe(t, w.nc, "ada")
	w.expect("all sessions", "", w.logout(first, wire.Logout{All: true}))
	if event := revoked(); event.Revocation == nil || event.Revocation.Before == nil || event.Revocation.Session != "" {
		t.Errorf("event %+v", event)
	}
	for _, tokens := range []wire.Tokens{a, c} {
		_, err := w.verify(tokens.Token)
		w.expect("a token after all", wire.Unauthenticated, err)
		_, err = w.refresh(tokens.RefreshToken)
		w.expect("a refresh token after all", wire.Unauthenticated, err)
	}
	w.identity(other.Token)
	w.identity(w.mustLogin("ada").Token)
}

// A logout whose store or whose instance went away half-way is repeated by its caller: the repeat completes it, and one that has nothing left to do is as good.
func TestALogoutIsCompletedByItsRepeat(t *testing.T) {
	w := newWorld(t)
	w.conversations()
	w.start(auth.Config{})
	a, b := w.mustRegister("ada"), w.mustLogin("ada")
	first, second := w.identity(a.Token), w.identity(b.Token)
	revocations, err := w.store.Revocations(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	half := wire.Revocation{User: "ada", Session: second.Session}
	if err := revocations.Revoke(t.Context(), half, time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	for _, try := range []string{"a repeat of half a logout", "a repeat of a whole one"} {
		w.expect(try, "", w.logout(first, wire.Logout{Session: second.Session}))
	}
	sessions, err := w.store.Sessions(t.Context(), "ada")
	if err != nil || len(sessions) != 1 || sessions[0].ID != first.Session {
		t.Errorf("the sessions afterwards are %+v, %v", sessions, err)
	}
	_, err = w.refresh(b.RefreshToken)
	w.expect("a refresh", wire.Unauthenticated, err)
}

func TestLogoutOfAllBindsInstancesWithOtherClocks(t *testing.T) {
	w := newWorld(t)
	w.conversations()
	ahead := w.startAt(auth.Config{}, func() time.Time { return time.Now().Add(5 * time.Second) })
	tokens := w.mustRegister("ada")
	ahead.Stop(t)
	w.startAt(auth.Config{}, time.Now)
	identity := w.identity(tokens.Token)
	w.expect("logout", "", w.logout(identity, wire.Logout{All: true}))
	_, err := w.verify(tokens.Token)
	w.expect("a token of a clock that is ahead", wire.Unauthenticated, err)
	// The end of all sessions now lies in the future of this clock; a new sign-in counts all the same.
	w.identity(w.mustLogin("ada").Token)
}

func TestRevokedListsWhatIsNew(t *testing.T) {
	w := newWorld(t)
	w.conversations()
	w.start(auth.Config{})
	w.start(auth.Config{})
	ask := func(after uint64) wire.Revocations {
		t.Helper()
		answer, err := call[wire.RevocationsQuery, wire.Revocations](w, nil, "revoked", wire.RevocationsQuery{After: after})
		if err != nil {
			t.Fatal(err)
		}
		return answer
	}
	if empty := ask(0); len(empty.Revocations) != 0 {
		t.Fatal(empty)
	}
	tokens := w.mustRegister("ada")
	identity := w.identity(tokens.Token)
	revision, began := ask(0).Revision, time.Now()
	w.expect("logout", "", w.logout(identity, wire.Logout{}))
	// Each instance may answer. An edge asks on from what it was told last: it hears of the end at least once, and then no more.
	heard := false
	for quiet := 0; quiet < 5; {
		answer := ask(revision)
		revision = answer.Revision
		for _, one := range answer.Revocations {
			heard = heard || one.User == "ada" && one.Session == identity.Session
		}
		if quiet++; !heard || len(answer.Revocations) > 0 {
			quiet = 0
		}
		if time.Since(began) > 10*time.Second {
			t.Fatalf("heard: %v, still told: %+v", heard, answer)
		}
	}
	for len(ask(0).Revocations) != 1 {
		if time.Since(began) > 10*time.Second {
			t.Fatal("not all is told from the beginning")
		}
	}
}

func TestTokenExpires(t *testing.T) {
	w := newWorld(t)
	w.conversations()
	var ahead atomic.Int64
	w.startAt(auth.Config{}, func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) })
	tokens := w.mustRegister("ada")
	ahead.Store(int64(15 * time.Minute))
	_, err := w.verify(tokens.Token)
	w.expect("after 15 minutes", wire.TokenExpired, err)
	next, err := w.refresh(tokens.RefreshToken)
	if err != nil {
		t.Fatal(err)
	}
	w.identity(next.Token)
	ahead.Store(int64(29 * 24 * time.Hour))
	if next, err = w.refresh(next.RefreshToken); err != nil {
		t.Fatalf("a refresh token lives from its last use on: %v", err)
	}
	ahead.Store(int64(60 * 24 * time.Hour))
	_, err = w.refresh(next.RefreshToken)
	w.expect("31 days later", wire.Unauthenticated, err)
}

func TestIssue(t *testing.T) {
	w := newWorld(t)
	enrolled := w.conversations()
	var ahead atomic.Int64
	now := func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	instance := w.startAt(auth.Config{Registration: auth.RegistrationClosed, TokenTTL: time.Minute, MaxTokenTTL: time.Hour}, now)
	issue := func(in wire.Issue) (wire.Tokens, error) { return call[wire.Issue, wire.Tokens](w, nil, "issue", in) }
	_, err := issue(wire.Issue{User: "bot"})
	w.expect("for nobody", wire.NotFound, err)
	tokens, err := issue(wire.Issue{User: "bot", Create: true, Name: "The bot", TTLMS: 1800_000})
	if err != nil || time.Until(tokens.ExpiresAt.Time) < 29*time.Minute {
		t.Fatal(tokens, err)
	}
	bot := w.identity(tokens.Token)
	if profile, err := w.store.User(t.Context(), "bot"); err != nil || profile.Name != "The bot" || !profile.Enrolled || enrolled.Load() != 1 {
		t.Errorf("%+v, %v", profile, err)
	}
	for _, ttl := range []int64{-1, 1, 3600_001, 1 << 62} {
		_, err := issue(wire.Issue{User: "bot", TTLMS: ttl})
		w.expect("a life out of bounds", wire.BadData, err)
	}
	short, err := issue(wire.Issue{User: "bot"})
	if err != nil || time.Until(short.ExpiresAt.Time) > time.Minute {
		t.Error(short, err)
	}
	// The end of a session is remembered for as long as its tokens may live.
	w.expect("logout", "", w.logout(w.identity(short.Token), wire.Logout{}))
	w.expect("logout of the long session", "", w.logout(bot, wire.Logout{}))
	ahead.Store(int64(20 * time.Minute))
	_, err = w.verify(tokens.Token)
	w.expect("a long token after its logout", wire.Unauthenticated, err)
	_, err = w.verify(short.Token)
	w.expect("a short token after its logout", wire.TokenExpired, err)
	instance.Stop(t)
	ahead.Store(0)
	other, err := func() (wire.Tokens, error) {
		defer w.startAt(auth.Config{TokenTTL: time.Hour}, now).Stop(t)
		return issue(wire.Issue{User: "bot"})
	}()
	if err != nil {
		t.Fatal(err)
	}
	w.start(auth.Config{TokenTTL: time.Minute})
	_, err = w.verify(other.Token)
	w.expect("a token from before the life was shortened", wire.TokenExpired, err)
}

func TestDisabledAccount(t *testing.T) {
	w := newWorld(t)
	w.conversations()
	w.start(auth.Config{})
	tokens := w.mustRegister("ada")
	profile, err := w.store.User(t.Context(), "ada")
	if err != nil {
		t.Fatal(err)
	}
	profile.Disabled = true
	if _, err := w.store.UpdateUser(t.Context(), profile); err != nil {
		t.Fatal(err)
	}
	_, err = w.verify(tokens.Token)
	w.expect("verify", wire.Unauthenticated, err)
	_, err = w.refresh(tokens.RefreshToken)
	w.expect("refresh", wire.Unauthenticated, err)
	_, err = w.login("ada", secret)
	w.expect("login", wire.Forbidden, err)
	_, err = w.login("ada", "wrong password")
	w.expect("login with a wrong password", wire.Unauthenticated, err)
	_, err = call[wire.Issue, wire.Tokens](w, nil, "issue", wire.Issue{User: "ada"})
	w.expect("issue", wire.Forbidden, err)
}

// Of tokens that are shown together each is judged for itself.
func TestManyTokensAtOnce(t *testing.T) {
	w := newWorld(t)
	w.conversations()
	w.start(auth.Config{})
	w.start(auth.Config{})
	out, disabled, good := w.mustRegister("ada"), w.mustRegister("bob"), w.mustRegister("cyd")
	again := w.mustLogin("ada")
	if err := w.logout(w.identity(out.Token), wire.Logout{}); err != nil {
		t.Fatal(err)
	}
	profile, err := w.store.User(t.Context(), "bob")
	if err != nil {
		t.Fatal(err)
	}
	profile.Disabled = true
	if _, err := w.store.UpdateUser(t.Context(), profile); err != nil {
		t.Fatal(err)
	}
	want := []subjects.User{"ada", "", "", "", "cyd", "cyd", ""}
	tokens := []string{again.Token, out.Token, disabled.Token, "", good.Token, good.Token, good.Token + "A"}
	for range 5 { // either instance
		got, err := call[wire.Verifications, wire.Verified](w, nil, "verify-many", wire.Verifications{Tokens: tokens})
		if err != nil || len(got.Tokens) != len(tokens) {
			t.Fatalf("%+v, %v", got, err)
		}
		for i, one := range got.Tokens {
			switch {
			case want[i] == "" && (one.Identity != nil || one.Error == nil || one.Error.Code != wire.Unauthenticated):
				t.Errorf("token %d is %+v", i, one)
			case want[i] != "" && (one.Identity == nil || one.Identity.User != want[i] || *one.Identity != w.identity(tokens[i])):
				t.Errorf("token %d is %+v", i, one)
			}
		}
	}
	for _, n := range []int{0, wire.MaxTogether + 1} {
		_, err := call[wire.Verifications, wire.Verified](w, nil, "verify-many", wire.Verifications{Tokens: make([]string, n)})
		w.expect(fmt.Sprint(n, " tokens"), wire.BadData, err)
	}
}

func TestInstancesAgreeOnOneKeyAndKeepIt(t *testing.T) {
	w := newWorld(t)
	w.conversations()
	type keys struct {
		Keys []map[string]string `json:"keys"`
	}
	published := func() keys {
		t.Helper()
		set, err := call[wire.Empty, keys](w, nil, "keys", wire.Empty{})
		if err != nil {
			t.Fatal(err)
		}
		return set
	}
	var wg sync.WaitGroup
	instances := make([]interface{ Stop(testing.TB) }, 5)
	for i := range instances {
		wg.Go(func() { instances[i] = w.start(auth.Config{}) })
	}
	wg.Wait()
	first := published()
	if len(first.Keys) != 1 || first.Keys[0]["alg"] != "EdDSA" || first.Keys[0]["d"] != "" {
		t.Fatalf("keys %+v", first)
	}
	var tokens []wire.Tokens
	for i := range 10 {
		tokens = append(tokens, w.mustRegister(subjects.User(fmt.Sprint("u", i))))
	}
	for _, one := range tokens {
		for range 3 {
			w.identity(one.Token)
		}
	}
	for _, in := range instances {
		in.Stop(t)
	}
	w.server.Restart(t)
	w.start(auth.Config{})
	if after := published(); len(after.Keys) != 1 || after.Keys[0]["kid"] != first.Keys[0]["kid"] {
		t.Errorf("after a restart: %+v", after)
	}
	w.identity(tokens[0].Token)
}

func TestKeysRotateWhileOldTokensStayGood(t *testing.T) {
	w := newWorld(t)
	w.conversations()
	var ahead atomic.Int64
	now := func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	cfg := auth.Config{KeyTTL: time.Hour, TokenTTL: 2 * time.Hour, MaxTokenTTL: 2 * time.Hour}
	w.startAt(cfg, now)
	w.startAt(cfg, now)
	old := w.mustRegister("ada")
	// Whichever instance sees the age first writes the next key; the other reads it before it is used.
	for _, age := range []time.Duration{61 * time.Minute, 75 * time.Minute} {
		ahead.Store(int64(age))
		for range 10 {
			w.identity(old.Token)
		}
	}
	young := w.mustLogin("ada")
	kid := func(tokens wire.Tokens) string { header, _, _ := strings.Cut(tokens.Token, "."); return header }
	if kid(young) == kid(old) {
		t.Error("the key did not change")
	}
	for range 10 {
		w.identity(young.Token)
		w.identity(old.Token)
	}
}

func TestStoreThatIsAwayIsToldFromARefusal(t *testing.T) {
	w := newWorld(t)
	w.conversations()
	w.start(auth.Config{})
	tokens := w.mustRegister("ada")
	// The function's store is gone, and the function itself is reachable: its streams are deleted under it.
	if _, err := w.nc.Request("$JS.API.STREAM.DELETE."+subjects.BucketStream(subjects.BucketSessions), nil, 5*time.Second); err != nil {
		t.Fatal(err)
	}
	_, err := call[wire.Verify, wire.Identity](w, &functions.Call{}, "verify", wire.Verify{Token: tokens.Token})
	w.expect("verify without a store", wire.StorageUnavailable, err)
}
