package auth

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/confab-im/confab/subjects/wire"
)

// cheap is the least work that argon2id takes, so that tests spend their time elsewhere.
var cheap = PasswordConfig{MemoryKiB: 8, Passes: 1, Lanes: 1}.withDefaults()

func TestPasswordHash(t *testing.T) {
	ctx := context.Background()
	h := newHasher(cheap)
	phc, err := h.hash(ctx, "correct horse")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(phc, "$argon2id$v=19$m=8,t=1,p=1$") || strings.Contains(phc, "correct") {
		t.Errorf("PHC string %q", phc)
	}
	other, _ := h.hash(ctx, "correct horse")
	if other == phc {
		t.Error("two hashes of one password are the same: there is no salt")
	}
	dearer := newHasher(PasswordConfig{MemoryKiB: 16, Passes: 2}.withDefaults())
	for name, c := range map[string]struct {
		hasher        *hasher
		phc, password string
		ok, again     bool
	}{
		"the right password passes":                                 {h, phc, "correct horse", true, false},
		"the right password asks for a new hash after a change":     {dearer, phc, "correct horse", true, true},
		"a wrong password does not pass":                            {h, phc, "correct horsf", false, false},
		"a wrong password asks for no new hash":                     {dearer, phc, "wrong", false, false},
		"the empty password does not pass":                          {h, phc, "", false, false},
		"no account passes with no password":                        {h, "", "correct horse", false, false},
		"a hash of another program with other parameters is judged": {h, "$argon2id$v=19$m=16,t=2,p=1$c29tZXNhbHQ$Zm9vYmFyZm9vYmFyZm9vYmFyZm9vYmFyZm9vYmFyMDA", "x", false, false},
	} {
		ok, again, err := c.hasher.verify(ctx, c.phc, c.password)
		if err != nil || ok != c.ok || again != c.again {
			t.Errorf("%s: %v, again %v, %v", name, ok, again, err)
		}
	}
	if _, err := h.hash(ctx, strings.Repeat("x", wire.MaxPassword+1)); wire.CodeOf(err) != wire.BadData {
		t.Errorf("a password of more than 1 KiB: %v", err)
	}
}

func TestPHCRefusesWhatItDidNotWrite(t *testing.T) {
	good, err := newHasher(cheap).hash(context.Background(), "x")
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(good, "$")
	with := func(i int, s string) string {
		changed := append([]string(nil), parts...)
		changed[i] = s
		return strings.Join(changed, "$")
	}
	for _, bad := range []string{
		"x", "$", good + "$", " " + good, good + "=", with(1, "argon2i"), with(1, "argon2d"), with(2, "v=16"), with(2, "v=+19"),
		with(3, "m=8,t=1"), with(3, "m=08,t=1,p=1"), with(3, "m=8,t=1,p=1 "), with(3, "m=8,t=0,p=1"), with(3, "m=8,t=1,p=0"), with(3, "m=7,t=1,p=1"),
		with(3, "m=4294967295,t=1,p=1"), with(3, "m=8,t=4000000000,p=1"), with(3, "m=8,t=1,p=255"), with(4, ""), with(4, "*"), with(5, ""), with(5, "Zm9v"),
	} {
		if _, _, _, err := parsePHC(bad); !errors.Is(err, errBadHash) {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestHashingIsBounded(t *testing.T) {
	config := cheap
	config.Concurrent, config.Waiting = 2, 3
	h := newHasher(config)
	// Both slots are taken, so what comes now waits, and what does not fit the queue is refused at once.
	for range config.Concurrent {
		h.slots <- struct{}{}
		h.queue <- struct{}{}
	}
	ctx, cancel := context.WithCancel(context.Background())
	results := make(chan error, 10)
	for range 10 {
		go func() { _, err := h.hash(ctx, "password"); results <- err }()
	}
	for range 10 - config.Waiting {
		err := <-results
		if e, ok := errors.AsType[*wire.Error](err); !ok || e.Code != wire.RateLimited || e.RetryAfterMS <= 0 {
			t.Fatalf("beyond the queue: %v", err)
		}
	}
	<-h.slots
	<-h.slots
	<-h.queue
	<-h.queue
	for range config.Waiting {
		if err := <-results; err != nil {
			t.Errorf("in the queue: %v", err)
		}
	}
	h.slots <- struct{}{}
	h.slots <- struct{}{}
	cancel()
	if _, err := h.hash(ctx, "password"); wire.CodeOf(err) != wire.RateLimited {
		t.Errorf("when the caller waits no more: %v", err)
	}
}

func TestFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFailures(3, 15*time.Minute, time.Now)
		try := func(user, address string, o outcome) error {
			done, err := f.begin("ada", address)
			if user != "ada" {
				t.Fatal(user)
			}
			if err == nil {
				done(o)
			}
			return err
		}
		for range 3 {
			if err := try("ada", "192.0.2.1", failed); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
		}
		err := try("ada", "192.0.2.1", succeeded)
		if e, ok := errors.AsType[*wire.Error](err); !ok || e.Code != wire.RateLimited || e.RetryAfterMS != (12*time.Minute).Milliseconds() {
			t.Fatalf("the fourth try: %v", err)
		}
		if err := try("ada", "192.0.2.2", succeeded); err != nil {
			t.Errorf("from another address: %v", err)
		}
		time.Sleep(12 * time.Minute)
		if err := try("ada", "192.0.2.1", undecided); err != nil {
			t.Errorf("after the window of the first: %v", err)
		}
		if err := try("ada", "192.0.2.1", failed); err != nil {
			t.Errorf("an undecided try counted: %v", err)
		}
		if err := try("ada", "192.0.2.1", failed); wire.CodeOf(err) != wire.RateLimited {
			t.Errorf("the window does not slide: %v", err)
		}
		time.Sleep(15 * time.Minute)
		for range 10 {
			if err := try("ada", "192.0.2.1", failed); err != nil {
				t.Fatal(err)
			}
			if err := try("ada", "192.0.2.1", succeeded); err != nil {
				t.Fatal(err)
			}
		}
		if f.recent.Len() != 0 || len(f.byKey) != 0 {
			t.Errorf("%d keys are remembered after success", f.recent.Len())
		}
	})
}

func TestFailuresCountTriesThatAreOpen(t *testing.T) {
	f := newFailures(5, time.Minute, time.Now)
	var wg sync.WaitGroup
	var mu sync.Mutex
	var open []func(outcome)
	for range 50 {
		wg.Go(func() {
			if done, err := f.begin("ada", "::1"); err == nil {
				mu.Lock()
				open = append(open, done)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if len(open) != 5 {
		t.Errorf("%d tries at once instead of 5", len(open))
	}
	for _, done := range open {
		done(failed)
	}
	if _, err := f.begin("ada", "::1"); wire.CodeOf(err) != wire.RateLimited {
		t.Error("the limit was outrun in parallel")
	}
}

func TestFailuresAreBoundedInMemory(t *testing.T) {
	f := newFailures(1, time.Hour, time.Now)
	for i := range maxFailureKeys + 10 {
		done, err := f.begin("ada", time.Duration(i).String())
		if err != nil {
			t.Fatal(err)
		}
		done(failed)
	}
	if f.recent.Len() != maxFailureKeys || len(f.byKey) != maxFailureKeys {
		t.Errorf("%d keys, %d in the list", len(f.byKey), f.recent.Len())
	}
}

func TestNetwork(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.7": "192.0.2.7", "192.0.2.7:443": "192.0.2.7", "::ffff:192.0.2.7": "192.0.2.7",
		"2001:db8:1:2:3:4:5:6": "2001:db8:1:2::/64", "[2001:db8:1:2:ffff::1]:80": "2001:db8:1:2::/64", "fe80::1%eth0": "fe80::/64",
		"": "", "pipe": "pipe",
	} {
		if got := network(in); got != want {
			t.Errorf("network(%q) = %q, want %q", in, got, want)
		}
	}
}
