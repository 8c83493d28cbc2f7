package scaler_test

import (
	"context"
	"errors"
	"io"
	"math"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"

	"github.com/confab-im/confab/deploy/scaler/externalscaler"
)

// operator does what KEDA's operator and the horizontal autoscaler do with one object: it polls every second, wakes on a push, asks the
// figure, and starts and stops processes. The autoscaler looks every second here and not every 15.
type operator struct {
	t        *testing.T
	url      string // of NATS, for the instances
	client   externalscaler.ExternalScalerClient
	ref      *externalscaler.ScaledObjectRef
	wake     int
	max      int
	cooldown time.Duration

	mu         sync.Mutex
	replicas   []*exec.Cmd
	most       int
	lastActive time.Time
	woke       time.Time // when it last went from nothing to something
	pushes     int
	desired    []recommendation
}

type recommendation struct {
	at       time.Time
	replicas int
}

// dial returns a client of one or many scalers, that asks them in turn, as KEDA's does.
func dial(t testing.TB, options []grpc.DialOption, addresses ...string) externalscaler.ExternalScalerClient {
	t.Helper()
	names := manual.NewBuilderWithScheme("test")
	var state resolver.State
	for _, a := range addresses {
		state.Endpoints = append(state.Endpoints, resolver.Endpoint{Addresses: []resolver.Address{{Addr: a}}})
	}
	names.InitialState(state)
	if len(options) == 0 {
		options = []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}
	}
	conn, err := grpc.NewClient("test:///scaler", append(options, grpc.WithResolvers(names),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig": [{"round_robin":{}}]}`))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return externalscaler.NewExternalScalerClient(conn)
}

func ref(metadata map[string]string) *externalscaler.ScaledObjectRef {
	return &externalscaler.ScaledObjectRef{Name: "echo", Namespace: "test", ScalerMetadata: metadata}
}

// operate runs an operator until the test ends.
func operate(t *testing.T, url string, wake, most int, addresses ...string) *operator {
	t.Helper()
	o := &operator{
		t: t, url: url, client: dial(t, nil, addresses...), wake: wake, max: most, cooldown: 300 * time.Millisecond,
		ref: ref(map[string]string{"scalerAddress": addresses[0], "function": "echo", "concurrency": "4", "idle": "300ms"}),
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { o.listen(ctx) })
	wg.Go(func() { o.poll(ctx) })
	t.Cleanup(func() {
		cancel()
		wg.Wait()
		o.scale(0)
	})
	return o
}

// listen keeps a stream open, with KEDA's waits between two.
func (o *operator) listen(ctx context.Context) {
	retry := 2 * time.Second
	for ctx.Err() == nil {
		stream, err := o.client.StreamIsActive(ctx, o.ref)
		for err == nil {
			var answer *externalscaler.IsActiveResponse
			if answer, err = stream.Recv(); err == nil && answer.GetResult() {
				o.pushed()
			}
		}
		if errors.Is(err, io.EOF) {
			retry = 2 * time.Second
		}
		select {
		case <-ctx.Done():
		case <-time.After(retry):
		}
		retry = min(2*retry, time.Minute)
	}
}

func (o *operator) pushed() {
	o.mu.Lock()
	o.pushes++
	o.mu.Unlock()
	o.active()
}

// active notes that there is work, and wakes the function.
func (o *operator) active() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.lastActive = time.Now()
	if len(o.replicas) == 0 {
		o.woke = o.lastActive
		o.scaleLocked(o.wake)
	}
}

func (o *operator) poll(ctx context.Context) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			o.look(ctx)
		}
	}
}

// look is one poll. After an error nothing is decided.
func (o *operator) look(ctx context.Context) {
	spec, err := o.client.GetMetricSpec(ctx, o.ref)
	if err != nil {
		return
	}
	target := spec.GetMetricSpecs()[0]
	figures, err := o.client.GetMetrics(ctx, &externalscaler.GetMetricsRequest{ScaledObjectRef: o.ref, MetricName: target.GetMetricName()})
	if err != nil {
		return
	}
	active, err := o.client.IsActive(ctx, o.ref)
	if err != nil {
		return
	}
	if active.GetResult() {
		o.active()
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if !active.GetResult() && len(o.replicas) > 0 && time.Since(o.lastActive) > o.cooldown {
		o.scaleLocked(0)
	}
	if len(o.replicas) > 0 {
		value := figures.GetMetricValues()[0].GetMetricValueFloat() / target.GetTargetSizeFloat()
		o.scaleLocked(min(max(o.recommend(int(math.Ceil(value))), o.wake), o.max))
	}
}

// recommend returns the highest recommendation of the last three seconds, for which the autoscaler's default is five minutes.
func (o *operator) recommend(replicas int) int {
	now := time.Now()
	o.desired = append(o.desired, recommendation{now, replicas})
	for len(o.desired) > 0 && now.Sub(o.desired[0].at) > 3*time.Second {
		o.desired = o.desired[1:]
	}
	for _, r := range o.desired {
		replicas = max(replicas, r.replicas)
	}
	return replicas
}

func (o *operator) scale(n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.scaleLocked(n)
}

// scaleLocked starts processes, or asks the newest to end and waits for them.
func (o *operator) scaleLocked(n int) {
	for len(o.replicas) < n {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), beEcho+"="+o.url)
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			o.t.Errorf("start an instance: %v", err)
			return
		}
		o.replicas = append(o.replicas, cmd)
	}
	o.most = max(o.most, len(o.replicas))
	leaving := o.replicas[n:]
	o.replicas = o.replicas[:n]
	for _, cmd := range leaving {
		_ = cmd.Process.Signal(syscall.SIGTERM)
	}
	for _, cmd := range leaving {
		err := cmd.Wait()
		if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signal() == syscall.SIGTERM {
			continue // it had not come as far as to handle the signal
		}
		if err != nil {
			o.t.Errorf("an instance ended with %v", err)
		}
	}
}

// state returns how many replicas there are and were at most, and how many pushes have come.
func (o *operator) state() (replicas, most, pushes int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.replicas), o.most, o.pushes
}
