package kubernetes

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	api "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// probe asks the container whether it has started, lives and is ready, as its specification says, while the process lives.
func (c *container) probe(process *process) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if c.spec.StartupProbe != nil {
		started := false
		c.repeat(ctx, process, c.spec.StartupProbe, func(good bool) bool {
			if started = good; !good {
				process.kill()
				return false
			}
			yes := true
			c.pod.set(func() { c.status.Started, c.status.Ready = &yes, c.spec.ReadinessProbe == nil })
			return false
		})
		if !started {
			return
		}
	}
	var both sync.WaitGroup
	if c.spec.ReadinessProbe != nil {
		both.Go(func() {
			c.repeat(ctx, process, c.spec.ReadinessProbe, func(good bool) bool {
				c.pod.set(func() { c.status.Ready = good })
				return true
			})
		})
	}
	if c.spec.LivenessProbe != nil {
		both.Go(func() {
			c.repeat(ctx, process, c.spec.LivenessProbe, func(good bool) bool {
				if !good {
					c.pod.node.log.Warn("container does not live, and is killed", "pod", c.pod.object.Name, "container", c.spec.Name)
					process.stop(grace(c.pod.object) + time.Second)
				}
				return good
			})
		})
	}
	both.Wait()
}

// repeat probes at the pace of a probe and tells the verdict whenever it changes, until the listener or the process has had enough.
func (c *container) repeat(ctx context.Context, process *process, probe *api.Probe, tell func(good bool) bool) {
	pace, limit := seconds(probe.PeriodSeconds, 10), seconds(probe.TimeoutSeconds, 1)
	wait := time.Duration(probe.InitialDelaySeconds) * time.Second
	good, bad, last, told := int32(0), int32(0), false, false
	for {
		select {
		case <-process.done:
			return
		case <-time.After(wait):
		}
		wait = pace
		attempt, cancel := context.WithTimeout(ctx, limit)
		err := c.ask(attempt, process, probe.ProbeHandler)
		cancel()
		if err == nil {
			good, bad = good+1, 0
		} else {
			good, bad = 0, bad+1
		}
		verdict, known := err == nil, good >= max(1, probe.SuccessThreshold) || bad >= max(1, probe.FailureThreshold)
		if !known || told && verdict == last {
			continue
		}
		last, told = verdict, true
		if err != nil {
			c.pod.node.log.Warn("probe failed", "pod", c.pod.object.Name, "container", c.spec.Name, "err", err)
		}
		if !tell(verdict) {
			return
		}
	}
}

func seconds(n, preset int32) time.Duration {
	if n <= 0 {
		n = preset
	}
	return time.Duration(n) * time.Second
}

// ask asks once.
func (c *container) ask(ctx context.Context, process *process, how api.ProbeHandler) error {
	switch {
	case how.Exec != nil:
		return c.exec(ctx, process, how.Exec.Command)
	case how.HTTPGet != nil:
		return c.fetch(ctx, how.HTTPGet)
	case how.TCPSocket != nil:
		connection, err := (&net.Dialer{}).DialContext(ctx, "tcp", c.address(how.TCPSocket.Host, how.TCPSocket.Port))
		if err == nil {
			_ = connection.Close()
		}
		return err
	}
	return fmt.Errorf("this node does not know the probe")
}

// hook does what a container asks for before its end.
func (c *container) hook(ctx context.Context, process *process, hook *api.LifecycleHandler) error {
	if hook.Sleep != nil {
		select {
		case <-process.done:
		case <-ctx.Done():
		case <-time.After(time.Duration(hook.Sleep.Seconds) * time.Second):
		}
		return nil
	}
	return c.ask(ctx, process, api.ProbeHandler{Exec: hook.Exec, HTTPGet: hook.HTTPGet, TCPSocket: hook.TCPSocket})
}

// exec runs a command in the container: its only program, with other arguments.
func (c *container) exec(ctx context.Context, beside *process, command []string) error {
	other := beside.program
	if len(command) == 0 || filepath.Base(command[0]) != filepath.Base(other.path) {
		return fmt.Errorf("exec %q: the image holds nothing but %s", command, filepath.Base(other.path))
	}
	environment, err := c.environment(ctx)
	if err != nil {
		return err
	}
	other.args = nil
	for _, arg := range command[1:] {
		other.args = append(other.args, expand(arg, environment))
	}
	process, err := run(other)
	if err != nil {
		return err
	}
	select {
	case <-process.done:
	case <-ctx.Done():
		process.kill()
		return ctx.Err()
	}
	if process.code() != 0 {
		return fmt.Errorf("%s ended with %d", strings.Join(command, " "), process.code())
	}
	return nil
}

func (c *container) fetch(ctx context.Context, get *api.HTTPGetAction) error {
	scheme := strings.ToLower(string(get.Scheme))
	if scheme == "" {
		scheme = "http"
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true} // a node checks no certificate
	return ready(ctx, &http.Client{Transport: transport}, scheme+"://"+c.address(get.Host, get.Port)+"/"+strings.TrimPrefix(get.Path, "/"))
}

// address returns where a probe goes: to the pod unless it names a host, to a port by its number or its name.
func (c *container) address(host string, port intstr.IntOrString) string {
	if host == "" {
		host = c.pod.ip
	}
	return net.JoinHostPort(host, strconv.Itoa(portOf(c.pod.object, port)))
}
