package edge

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// without takes methods from a function, as an earlier release of it has them not.
func without(f functions.Function, names ...subjects.Method) functions.Function {
	f.Methods = slices.DeleteFunc(f.Methods, func(m functions.Method) bool { return slices.Contains(names, m.Name) })
	make := f.New
	f.New = func(ctx context.Context, env functions.Env) (functions.Handlers, error) {
		handlers, err := make(ctx, env)
		for _, name := range names {
			delete(handlers, name)
		}
		return handlers, err
	}
	return f
}

// Everybody becomes who their own token says, and gets what is theirs, whoever comes at the same moment.
func TestManySignInAtOnce(t *testing.T) {
	t.Parallel()
	for name, newWorld := range map[string]func(testing.TB) *world{
		"": newWorld,
		" with functions of an earlier release": func(t testing.TB) *world {
			w := sleepingWorld(t)
			for _, f := range w.functions() {
				w.start(without(f, methodVerifyMany, methodMemberships, methodHeadsOf))
			}
			return w
		},
	} {
		t.Run("many sign in"+name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			r := w.edge(func(c *Config) { c.Limits = None() })
			var all sync.WaitGroup
			for i := range 60 {
				user, token, want := fmt.Sprintf("u%d", i), "", wire.Code("")
				switch i % 6 {
				case 0: // whom the functions want to be asked for alone
					user = "late" + user
				case 1:
					token, want = "nobody."+user, wire.Unauthenticated
				case 2:
					token, want = strings.Repeat(`"`, wire.MaxToken), wire.Unauthenticated // is nothing that others could be asked for with
				case 3:
					token, want = w.token(user, -time.Second), wire.TokenExpired
				}
				if token == "" {
					token = w.token(user, time.Hour)
				}
				group := fmt.Sprintf("g.g%d", i%3)
				w.add(group, user)
				all.Go(func() {
					c := r.dial(t)
					var got wire.Code
					_, err := c.call("hello", map[string]any{"token": token, "device": "web"})
					if err != nil {
						got = err.Code
					}
					if got != want {
						t.Errorf("%s is answered %v, want %q", user, err, want)
					}
					if want != "" {
						if code := c.closed(); code != int(wire.CloseUnauthenticated) {
							t.Errorf("%s: closed with %d", user, code)
						}
						return
					}
					u := r.users.find(subjects.User(user))
					if !r.isMember(u, subjects.Conversation(group)) || len(u.conversations()) != 1 {
						t.Errorf("%s is in %v", user, u.conversations())
					}
				})
			}
			all.Wait()
		})
	}
}

// Everybody gets their own list, whoever asks at the same moment; who asks for a part of it, or has to be asked for alone, is asked for alone.
func TestManyAskForTheirLists(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.edge(func(c *Config) { c.Limits = None() })
	users := make([]string, 90)
	clients := make([]*client, len(users))
	for i := range users {
		users[i] = fmt.Sprintf("u%02d", i)
		if i%9 == 0 {
			users[i] = "late" + users[i]
		}
		for range i % 4 {
			w.say("d."+users[i]+".zoe", users[i], "hi")
		}
		clients[i] = r.connect(t, w, users[i], "web")
	}
	w.mu.Lock()
	w.paused, w.together = map[string]bool{"heads": true}, nil
	w.mu.Unlock()
	var answers []<-chan wire.ServerFrame
	for i, c := range clients {
		query := wire.HeadsQuery{}
		switch i % 9 {
		case 1:
			query.After = "d.a.b"
		case 2:
			query.Limit = 1
		}
		answers = append(answers, c.begin("history.heads", query))
	}
	close(w.gate("heads"))
	for i, answer := range answers {
		f := <-answer
		var heads wire.Heads
		if f.Error != nil || json.Unmarshal(f.OK, &heads) != nil {
			t.Fatalf("answered %+v", f)
		}
		want := 0
		if i%4 > 0 {
			want = 1
		}
		if len(heads.Conversations) != want || want > 0 && (heads.Conversations[0].Conversation != subjects.Conversation("d."+users[i]+".zoe") || heads.Conversations[0].Head.Seq != wire.Seq(i%4)) {
			t.Errorf("%s is answered %+v", users[i], heads)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if slices.Max(w.together) < 2 {
		t.Errorf("nobody was asked for with others: %v", w.together)
	}
}

func TestRevokedWhileSigningIn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.edge()
	for name, paused := range map[string]string{"the token is looked at": "verify", "the memberships are read": "memberships"} {
		w.mu.Lock()
		w.paused, w.together = map[string]bool{paused: true}, nil
		w.mu.Unlock()
		token := w.token("ada", time.Hour)
		c := r.dial(t)
		c.begin("hello", map[string]any{"token": token, "device": "web"})
		calls := map[string]int{"verify": 1, "memberships": 2}[paused]
		eventually(t, "the answer is known", func() bool { w.mu.Lock(); defer w.mu.Unlock(); return len(w.together) == calls })
		w.mu.Lock()
		w.revocations = append(w.revocations, wire.Revocation{User: "ada", Session: w.tokens[token].Session})
		w.mu.Unlock()
		eventually(t, "the revocation has come", func() bool { return r.identities.isRevoked(w.tokens[token]) })
		close(w.gate(paused))
		if code := c.closed(); code != int(wire.CloseRevoked) && code != int(wire.CloseUnauthenticated) {
			t.Errorf("while %s: closed with %d", name, code)
		}
	}
}

func TestRemovedWhileSigningIn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.edge()
	for _, group := range []string{"g.followed", "g.unknown", "g.stays"} {
		w.add(group, "ada")
		w.add(group, "bob")
	}
	w.remove("g.unknown", "ada")
	w.remove("g.stays", "ada")
	ada := r.connect(t, w, "ada", "web")
	w.mu.Lock()
	w.paused, w.together = map[string]bool{"memberships": true}, nil
	w.mu.Unlock()
	bob := r.dial(t)
	answer := bob.begin("hello", map[string]any{"token": w.token("bob", time.Hour), "device": "web"})
	eventually(t, "the memberships are read", func() bool { w.mu.Lock(); defer w.mu.Unlock(); return len(w.together) == 2 })
	w.remove("g.followed", "bob")
	w.remove("g.unknown", "bob")
	ada.expect("g.followed", 3)
	w.mu.Lock()
	w.paused = nil
	w.mu.Unlock()
	close(w.gate("memberships"))
	if f := <-answer; f.Error != nil {
		t.Fatal(f.Error)
	}
	u := r.users.find("bob")
	for group, member := range map[subjects.Conversation]bool{"g.followed": false, "g.unknown": false, "g.stays": true} {
		if r.isMember(u, group) != member {
			t.Errorf("is bob in %s? want %v", group, member)
		}
	}
}

// Those for whom there is no turn yet are held, not refused: their time to hello stands still.
func TestHellosWaitForTheirTurn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.edge()
	for range hellosAtOnce {
		r.hellos <- struct{}{}
	}
	held := r.dial(t)
	answer := held.begin("hello", map[string]any{"token": w.token("ada", time.Hour), "device": "web"})
	if code := r.dial(t).closed(); code != int(wire.CloseUnauthenticated) { // after the time to hello
		t.Errorf("a silent one is closed with %d", code)
	}
	select {
	case f := <-answer:
		t.Fatalf("answered before its turn: %+v", f)
	case <-held.ended:
		t.Fatalf("closed with %d before its turn", held.code)
	default:
	}
	<-r.hellos
	select {
	case f := <-answer:
		if f.Error != nil {
			t.Errorf("in its turn it is answered %v", f.Error)
		}
	case <-held.ended:
		t.Errorf("in its turn it is closed with %d", held.code)
	case <-time.After(patience):
		t.Error("not answered in its turn")
	}
	// Nobody waits for an edge that is about to stop.
	r.hellos <- struct{}{}
	late := r.dial(t)
	answer = late.begin("hello", map[string]any{"token": w.token("bob", time.Hour), "device": "web"})
	done := make(chan struct{})
	go func() { defer close(done); r.stop() }()
	late.closed()
	<-done
	select {
	case f := <-answer:
		if f.Error == nil || f.Error.Code != wire.Unavailable {
			t.Errorf("at the end it is answered %+v", f)
		}
	default: // the end came first
	}
}
