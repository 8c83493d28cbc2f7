package auth_test

import (
	"cmp"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/confab-im/confab/functions/auth"
	"github.com/confab-im/confab/subjects/wire"
)

func TestTenFailuresStopAnAddress(t *testing.T) {
	w := newWorld(t)
	w.conversations()
	var ahead atomic.Int64
	w.startAt(auth.Config{}, func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) })
	w.mustRegister("ada")
	for i := range 10 {
		_, err := w.login("ada", fmt.Sprint("wrong ", i))
		w.expect("a wrong password", wire.Unauthenticated, err)
	}
	_, err := w.login("ada", secret)
	w.expect("even the right one", wire.RateLimited, err)
	if e := err.(*wire.Error); e.RetryAfterMS < (14*time.Minute).Milliseconds() || e.RetryAfterMS > (15*time.Minute).Milliseconds() {
		t.Errorf("retry_after_ms %d", e.RetryAfterMS)
	}
	if _, err := w.loginFrom("198.51.100.7", "ada", secret); err != nil {
		t.Errorf("from another address: %v", err)
	}
	for range 10 {
		_, err := w.login("nobody", secret)
		w.expect("an unknown user", wire.Unauthenticated, err)
	}
	_, err = w.login("nobody", secret)
	w.expect("an unknown user is limited alike", wire.RateLimited, err)
	ahead.Store(int64(15 * time.Minute))
	w.mustLogin("ada")
}

// TestUnknownUserAndWrongPasswordLookTheSame compares the answers and the least of several times, with the work of real hashes.
func TestUnknownUserAndWrongPasswordLookTheSame(t *testing.T) {
	w := newWorld(t)
	w.conversations()
	w.start(auth.Config{Failures: 1000, Password: auth.PasswordConfig{MemoryKiB: 8 << 10, Passes: 2}})
	w.mustRegister("ada")
	if _, err := call[wire.Issue, wire.Tokens](w, nil, "issue", wire.Issue{User: "bot", Create: true}); err != nil {
		t.Fatal(err)
	}
	least := map[string]time.Duration{}
	alike := func() bool { // what the machine does beside makes some slower, and none faster
		return least["nobody"] > least["ada"]/2 && least["nobody"] < least["ada"]*2 && least["bot"] > least["ada"]/2 && least["bot"] < least["ada"]*2
	}
	answer := ""
	for until := time.Now().Add(30 * time.Second); len(least) == 0 || !alike() && time.Now().Before(until); {
		for _, user := range []string{"ada", "nobody", "bot"} {
			began := time.Now()
			_, err := w.login(wireUser(user), "wrong password")
			took := time.Since(began)
			w.expect(user, wire.Unauthenticated, err)
			if answer = cmp.Or(answer, err.Error()); err.Error() != answer {
				t.Errorf("%s: %q, not %q", user, err, answer)
			}
			if best, ok := least[user]; !ok || took < best {
				least[user] = took
			}
		}
	}
	if !alike() {
		t.Errorf("a wrong password takes at least %v", least)
	}
}

func TestPasswordsAreHashedAgainWhenTheParametersChange(t *testing.T) {
	w := newWorld(t)
	w.conversations()
	old := w.start(auth.Config{})
	w.mustRegister("ada")
	old.Stop(t)
	w.start(auth.Config{Password: auth.PasswordConfig{MemoryKiB: 16, Passes: 2}})
	for _, want := range []string{"$argon2id$v=19$m=8,t=1,p=1$", "$argon2id$v=19$m=16,t=2,p=1$", "$argon2id$v=19$m=16,t=2,p=1$"} {
		credential, err := w.store.Credential(t.Context(), "ada")
		if err != nil || !strings.HasPrefix(credential.Hash, want) {
			t.Errorf("%q, %v", credential.Hash, err)
		}
		w.mustLogin("ada")
	}
}

// TestManySignInsAtOnceTakeBoundedMemory signs in 100 times at once with the parameters of the product.
func TestManySignInsAtOnceTakeBoundedMemory(t *testing.T) {
	w := newWorld(t)
	w.conversations()
	w.start(auth.Config{Failures: 1000, Password: auth.PasswordConfig{MemoryKiB: 64 << 10, Passes: 1, Waiting: 6}})
	w.mustRegister("ada")
	runtime.GC()
	var before, now runtime.MemStats
	runtime.ReadMemStats(&before)
	stop := make(chan struct{})
	var peak uint64
	var watch sync.WaitGroup
	watch.Go(func() {
		for tick := time.NewTicker(5 * time.Millisecond); ; {
			select {
			case <-stop:
				return
			case <-tick.C:
				runtime.ReadMemStats(&now)
				peak = max(peak, now.HeapAlloc)
			}
		}
	})
	var in, limited atomic.Int32
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			switch _, err := w.login("ada", secret); wire.CodeOf(err) {
			case "":
				in.Add(1)
			case wire.RateLimited:
				limited.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	close(stop)
	watch.Wait()
	const mebibyte = 1 << 20
	t.Logf("%d signed in, %d limited, heap %d → %d MiB", in.Load(), limited.Load(), before.HeapAlloc/mebibyte, peak/mebibyte)
	if in.Load() < 8 || limited.Load() == 0 {
		t.Errorf("%d signed in, %d limited", in.Load(), limited.Load())
	}
	if peak > before.HeapAlloc+(2*64+32)*mebibyte {
		t.Errorf("the heap grew by %d MiB", (peak-before.HeapAlloc)/mebibyte)
	}
}
