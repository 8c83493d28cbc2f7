package supervisor

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

var replacements = flag.Int("replacements", 12, "children that are asked to leave under load")

// TestInstancesComeAndGoUnderLoad has one caller, then many, then none, while children are asked to leave all the time. The method is not marked idempotent, so
// nothing hides a call that is lost or runs twice.
func TestInstancesComeAndGoUnderLoad(t *testing.T) {
	w := newWorld(t, func(c *Config, e *Entry) { c.IdleTimeout, e.Scale.Max = time.Second, 8 })
	var number, failed atomic.Int64
	var callers sync.WaitGroup
	done := make(chan struct{})
	caller := func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			n := int(number.Add(1))
			if _, err := w.try(work{Number: n, TakesMS: 1 + rand.IntN(10)}); err != nil {
				failed.Add(1)
				t.Errorf("call %d: %v", n, err)
			}
		}
	}
	callers.Go(caller)
	w.says("instance is started", 1)
	for range 19 {
		callers.Go(caller)
	}
	most, replaced := 0, 0
	for began := time.Now(); replaced < *replacements || most < 8 && time.Since(began) < patience; {
		children := childrenOf(os.Getpid())
		most = max(most, len(children))
		if len(children) > 2 && syscall.Kill(children[rand.IntN(len(children))], syscall.SIGTERM) == nil {
			replaced++
		}
		time.Sleep(time.Duration(50+rand.IntN(100)) * time.Millisecond)
	}
	close(done)
	callers.Wait()
	eventually(t, "everybody has left", func() bool { return len(childrenOf(os.Getpid())) == 0 })
	ran := w.times()
	lost, twice := 0, 0
	for n := range int(number.Load()) {
		switch times := ran[fmt.Sprint(n+1)]; {
		case times == 0:
			lost++
		case times > 1:
			twice++
		}
	}
	t.Logf("%d calls, %d failed, %d lost, %d ran twice; %d children were replaced, %d at once at most", number.Load(), failed.Load(), lost, twice, replaced, most)
	if lost > 0 || twice > 0 {
		t.Error("that is not nothing")
	}
	if most < 8 {
		t.Errorf("no more than %d children ran", most)
	}
}
