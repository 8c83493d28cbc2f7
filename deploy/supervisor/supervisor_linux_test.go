package supervisor

import (
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/confab-im/confab/deploy/manifest"
	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/functions/functionstest"
	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/jetstream/jetstreamtest"
	"github.com/confab-im/confab/subjects/wire"
)

func TestACallStartsAChildThatLeavesWhenItIdles(t *testing.T) {
	t.Setenv("CONFAB_OF_THE_PARENT", "not for children")
	w := newWorld(t, func(c *Config, _ *Entry) { c.IdleTimeout = 300 * time.Millisecond })
	first := w.call(work{Number: 1})
	if first.Unit != "echo-1" || first.Procs != "2" || first.Memory != strconv.Itoa(90<<20) {
		t.Errorf("the child got %+v", first)
	}
	if first.Files != maxFiles {
		t.Errorf("the child may open %d files, want %d", first.Files, maxFiles)
	}
	if first.Foreign {
		t.Error("the child got a setting of its parent")
	}
	eventually(t, "the child is gone", func() bool { return !lives(first.PID) })
	w.says("instance left", 1)
	if again := w.call(work{Number: 2}); again.Unit != "echo-2" {
		t.Errorf("the next call was answered by %+v", again)
	}
	if log := w.log.String(); strings.Contains(log, "crashed") {
		t.Error("leaving counts as a crash")
	}
	if !strings.Contains(w.log.String(), `function=echo`) {
		t.Error("the log of a child is not passed on")
	}
}

func TestWorkThatWaitsStartsAChild(t *testing.T) {
	w := newWorld(t, func(c *Config, e *Entry) {
		c.IdleTimeout, e.Works = 200*time.Millisecond, true
		e.Environment = append(e.Environment, roleVariable+"=worker")
		if err := jetstream.Declare(t.Context(), c.NATS, jetstream.Profile{}); err != nil {
			t.Fatal(err)
		}
		if err := jetstream.DeclareConsumers(t.Context(), c.NATS, []jetstream.ConsumerSpec{{Function: "echo", Jobs: true}}); err != nil {
			t.Fatal(err)
		}
	})
	for n := range 2 { // the second one finds it asleep again
		job := functions.Job{Function: "echo", Method: "say"}
		if _, err := functions.Later(t.Context(), w.caller, job, work{Number: n}, 0); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the job is done", func() bool { return w.times()[strconv.Itoa(n)] == 1 })
		w.says("instance left", n+1)
	}
}

func TestTheLeastNumberStays(t *testing.T) {
	w := newWorld(t, func(c *Config, e *Entry) { c.IdleTimeout, e.Scale.Min = 100*time.Millisecond, 1 })
	w.says("instance of a child is up", 1)
	first := w.call(work{Number: 1})
	// Those beyond the least number come for a burst, and leave.
	var burst sync.WaitGroup
	for i := range 8 {
		burst.Go(func() { w.call(work{Number: 10 + i, TakesMS: 500}) })
	}
	burst.Wait()
	w.says("instance left", 1)
	if !lives(first.PID) {
		t.Error("the one that is kept has left")
	}
	if strings.Count(w.log.String(), "instance is started") < 2 {
		t.Error("a burst started nobody")
	}
}

func TestABurstStartsNoMoreThanTheMost(t *testing.T) {
	w := newWorld(t, nil)
	const calls = 60
	var mu sync.Mutex
	pids := map[int]bool{}
	var burst sync.WaitGroup
	for i := range calls {
		burst.Go(func() {
			got := w.call(work{Number: i, TakesMS: 20})
			mu.Lock()
			defer mu.Unlock()
			pids[got.PID] = true
		})
	}
	burst.Wait()
	if started := strings.Count(w.log.String(), "instance is started"); started > 3 || len(pids) > 3 {
		t.Errorf("%d children were started, and %d answered; 3 are the most", started, len(pids))
	}
	for number, n := range w.times() {
		if n != 1 {
			t.Errorf("call %s ran %d times", number, n)
		}
	}
	w.end()
	for pid := range pids {
		if lives(pid) {
			t.Errorf("process %d outlives the supervisor", pid)
		}
	}
}

func TestAChildKilledWhileItStartsIsReplacedAtOnce(t *testing.T) {
	w := newWorld(t, func(_ *Config, e *Entry) { e.Environment = append(e.Environment, slowVariable+"=400ms") })
	killed := make(chan error, 1)
	go func() {
		killed <- func() error {
			for late := time.Now().Add(patience); time.Now().Before(late); time.Sleep(5 * time.Millisecond) {
				if pids := childrenOf(os.Getpid()); len(pids) > 0 {
					return syscall.Kill(pids[0], syscall.SIGKILL)
				}
			}
			return fmt.Errorf("no child was started")
		}()
	}()
	got := w.call(work{Number: 1})
	if err := <-killed; err != nil {
		t.Fatal(err)
	}
	if got.Unit != "echo-2" {
		t.Errorf("%s answered, not the second child", got.Unit)
	}
	if n := w.times()["1"]; n != 1 {
		t.Errorf("the call ran %d times", n)
	}
}

func TestACallThatComesWhileAChildDrainsGetsAFreshOne(t *testing.T) {
	w := newWorld(t, func(_ *Config, e *Entry) { e.Scale.Max = 1 })
	long := make(chan answer, 1)
	go func() { long <- w.call(work{Number: 1, TakesMS: 1500}) }()
	w.says("instance of a child is up", 1)
	eventually(t, "the call is at work", func() bool { return w.times()["1"] == 1 })
	if err := syscall.Kill(childrenOf(os.Getpid())[0], syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	eventually(t, "its bye is heard", func() bool { return w.caller.Instances("echo") == 0 })
	began := time.Now()
	fresh := w.call(work{Number: 2})
	took := time.Since(began)
	first := <-long
	if took > time.Second {
		t.Errorf("the call took %s: it waited for the child that drains", took)
	}
	if first.Unit != "echo-1" || strings.Count(w.log.String(), "instance is started") != 2 {
		t.Errorf("%+v and %+v answered", first, fresh)
	}
}

func TestAFunctionThatDoesNotStartSaysWhy(t *testing.T) {
	cause := filepath.Join(t.TempDir(), "cause")
	if err := os.WriteFile(cause, []byte("the lamp is out"), 0o600); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, func(_ *Config, e *Entry) { e.Environment = append(e.Environment, brokenVariable+"="+cause) })
	said := w.hear("broken")
	began := time.Now()
	_, err := w.try(work{Number: 1})
	if code := wire.CodeOf(err); code != wire.Unavailable || time.Since(began) > 3*time.Second {
		t.Fatalf("after %s the call ends with %v", time.Since(began), err)
	}
	if strings.Contains(err.Error(), "lamp") {
		t.Errorf("the caller learns of the inside: %v", err)
	}
	if b := w.broken(said); !strings.Contains(b.Reason, "the lamp is out") || b.Function != "echo" {
		t.Errorf("it is said that %+v", b)
	}
	w.says(`function does not start`, 1)
	w.says(`the lamp is out`, 1)
	if err := os.Remove(cause); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the function answers again", func() bool {
		_, err := w.try(work{Number: 2})
		return err == nil
	})
}

func TestAChildKilledUnderWorkIsSaidToBeGone(t *testing.T) {
	w := newWorld(t, nil)
	first := w.call(work{Number: 1})
	bye := w.hear("bye")
	if err := syscall.Kill(first.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if _, err := bye.NextMsg(patience); err != nil {
		t.Fatalf("nobody says bye for an instance that was killed: %v", err)
	}
	if second := w.call(work{Number: 2}); second.PID == first.PID {
		t.Error("a dead process answered")
	}
}

func TestChildrenEndWithASupervisorThatIsKilled(t *testing.T) {
	server := jetstreamtest.Start(t)
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program)
	cmd.Env = append(os.Environ(), roleVariable+"=supervisor", "TEST_NATS="+server.URL, "TEST_RAN="+filepath.Join(t.TempDir(), "ran"))
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() { _ = cmd.Process.Kill(); ended <- <-ended })
	w := &world{t: t, nc: server.Connect(t)}
	w.caller = functionstest.Caller(t, w.nc)
	got := w.call(work{Number: 1})
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	ended <- <-ended
	eventually(t, "the child is gone", func() bool { return !lives(got.PID) })
}

func TestAChildThatDoesNotSpeakIsKilled(t *testing.T) {
	w := newWorld(t, nil) // for the connection
	s := &supervisor{Config: Config{NATS: w.nc, Log: slog.New(slog.NewTextHandler(w.log, nil))}, starter: newStarter()}
	defer s.starter.close()
	mute := Entry{Supervised: manifest.Supervised{Function: "mute", Scale: manifest.Scale{Max: 1, Wake: 1}}, Command: []string{"sleep", "600"}}
	k := newKeeper(s, mute)
	k.start()
	k.watch(time.Now())
	select {
	case <-k.exits:
		t.Fatal("it was killed before its time")
	case <-time.After(50 * time.Millisecond):
	}
	k.watch(time.Now().Add(startWithin + time.Second))
	e := <-k.exits
	k.gone(e)
	if k.crashes.count != 1 || !strings.Contains(k.crashes.reason, "did not say that it is up") {
		t.Errorf("that counts as %+v", k.crashes)
	}
	k.start()
	k.askAll()
	if e = <-k.exits; e.child.verdict(e.err) != "" {
		t.Errorf("a child that was asked to end has crashed: %v", e.err)
	}
}
