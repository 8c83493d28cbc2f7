package kubernetes

import (
	"context"
	"fmt"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"time"

	api "k8s.io/api/core/v1"
	meta1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The pauses before a container that ended is started again: none the first time, then doubling between these bounds. A real node's are ten times longer.
const (
	firstPause = time.Second
	lastPause  = 30 * time.Second
)

// container is one container of a pod, and the process that it is at the moment.
type container struct {
	pod   *pod
	spec  api.Container
	first bool // it initialises

	// Guarded by the pod's lock.
	status  api.ContainerStatus
	process *process
}

func newContainer(p *pod, spec api.Container, first bool) *container {
	no := false
	c := &container{pod: p, spec: spec, first: first}
	c.status = api.ContainerStatus{Name: spec.Name, Image: spec.Image, Started: &no}
	c.waits("ContainerCreating", "")
	return c
}

// run runs the container, again and again where the pod's policy says so, until ctx ends; then it waits for the process, which terminate ends.
func (c *container) run(ctx context.Context) {
	pause := time.Duration(0)
	for {
		began := time.Now()
		process, err := c.start(ctx)
		if err == nil {
			c.watch(process)
		} else {
			c.pod.node.log.Warn("container did not start", "pod", c.pod.object.Name, "container", c.spec.Name, "err", err)
			c.pod.set(func() { c.ends(128, err.Error(), began) })
		}
		if ctx.Err() != nil || !c.restarts() {
			return
		}
		if time.Since(began) > lastPause {
			pause = 0
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		pause = min(max(firstPause, 2*pause), lastPause)
		c.pod.set(func() {
			c.status.RestartCount++
			c.status.LastTerminationState = c.status.State
			c.waits("CrashLoopBackOff", "")
		})
	}
}

// start starts the process, unless the pod is ending.
func (c *container) start(ctx context.Context) (*process, error) {
	program, err := c.program(ctx)
	if err != nil {
		return nil, err
	}
	c.pod.mu.Lock()
	defer c.pod.mu.Unlock()
	if c.pod.ending {
		return nil, context.Canceled
	}
	if c.process, err = run(program); err != nil {
		return nil, err
	}
	started := c.spec.StartupProbe == nil
	c.status.State = api.ContainerState{Running: &api.ContainerStateRunning{StartedAt: meta1.Now()}}
	c.status.Started, c.status.Ready = &started, started && c.spec.ReadinessProbe == nil
	c.pod.node.log.Info("container runs", "pod", c.pod.object.Name, "container", c.spec.Name, "pid", c.process.cmd.Process.Pid)
	return c.process, nil
}

// watch reports that the process runs, probes it, and returns when it has ended.
func (c *container) watch(process *process) {
	c.pod.set(func() {})
	c.pod.node.doom(c.pod, process)
	var probes sync.WaitGroup
	probes.Go(func() { c.probe(process) })
	began := time.Now()
	<-process.done
	probes.Wait()
	c.pod.node.log.Info("container ended", "pod", c.pod.object.Name, "container", c.spec.Name, "code", process.code())
	c.pod.set(func() { c.ends(process.code(), "", began) })
}

// terminate asks the process to end, after the hook that the specification names, and kills it when the grace has passed; without one, at once.
func (c *container) terminate(grace time.Duration) {
	c.pod.mu.Lock()
	c.pod.ending = true // nothing starts from here on
	process := c.process
	c.pod.mu.Unlock()
	if process == nil {
		return
	}
	deadline := time.Now().Add(grace)
	if hook := c.spec.Lifecycle; grace > 0 && hook != nil && hook.PreStop != nil && process.alive() {
		ctx, cancel := context.WithDeadline(context.Background(), deadline)
		if err := c.hook(ctx, process, hook.PreStop); err != nil {
			c.pod.node.log.Warn("hook before the end failed", "pod", c.pod.object.Name, "err", err)
		}
		cancel()
	}
	if grace > 0 {
		process.stop(time.Until(deadline))
	} else {
		process.kill()
	}
}

// program returns what the container's process is: the program of its image, with the pod's root, user, arguments and environment.
func (c *container) program(ctx context.Context) (program, error) {
	name := imageName(c.spec.Image)
	binary, known := c.pod.node.images[name]
	if !known {
		return program{}, fmt.Errorf("no program stands for the image %q", c.spec.Image)
	}
	user, err := c.user()
	if err != nil {
		return program{}, err
	}
	environment, err := c.environment(ctx)
	if err != nil {
		return program{}, err
	}
	args := append([]string{}, c.spec.Args...)
	if len(c.spec.Command) > 0 {
		if path.Base(c.spec.Command[0]) != filepath.Base(binary) {
			return program{}, fmt.Errorf("exec %q: the image %q holds nothing but %s", c.spec.Command[0], c.spec.Image, filepath.Base(binary))
		}
		args = append(append(args[:0:0], c.spec.Command[1:]...), args...)
	}
	var list []string
	for i := range args {
		args[i] = expand(args[i], environment)
	}
	for _, name := range environment.order {
		list = append(list, name+"="+environment.values[name])
	}
	inside := "/bin/" + filepath.Base(binary)
	if err := install(binary, filepath.Join(c.pod.root, inside)); err != nil {
		return program{}, err
	}
	log := fmt.Sprintf("%s_%s_%s", c.pod.object.Namespace, c.pod.object.Name, c.spec.Name)
	return program{
		name: c.pod.object.Name + "/" + c.spec.Name, path: inside, args: args, env: list, dir: "/", root: c.pod.root, user: user,
		log: filepath.Join(c.pod.node.dir, "..", "logs", log),
	}, nil
}

// user returns the user id that the process has. An image that says nothing runs as 65532, as those without a shell do by habit.
func (c *container) user() (int, error) {
	user, demanded := int64(65532), false
	if s := c.pod.object.Spec.SecurityContext; s != nil {
		user, demanded = override(user, s.RunAsUser), override(demanded, s.RunAsNonRoot)
	}
	if s := c.spec.SecurityContext; s != nil {
		user, demanded = override(user, s.RunAsUser), override(demanded, s.RunAsNonRoot)
	}
	if demanded && user == 0 {
		return 0, fmt.Errorf("container %s must not run as root, and would", c.spec.Name)
	}
	return int(user), nil
}

func override[T any](preset T, value *T) T {
	if value != nil {
		return *value
	}
	return preset
}

// restarts says whether the container is to run again after its end.
func (c *container) restarts() bool {
	switch c.pod.object.Spec.RestartPolicy {
	case api.RestartPolicyNever:
		return false
	case api.RestartPolicyOnFailure:
		return !c.succeeded()
	}
	return !c.first || !c.succeeded()
}

func (c *container) succeeded() bool {
	c.pod.mu.Lock()
	defer c.pod.mu.Unlock()
	return c.status.State.Terminated != nil && c.status.State.Terminated.ExitCode == 0
}

func (c *container) waits(reason, message string) {
	c.status.State = api.ContainerState{Waiting: &api.ContainerStateWaiting{Reason: reason, Message: message}}
}

func (c *container) ends(code int, message string, began time.Time) {
	reason, no := "Completed", false
	if code != 0 {
		reason = "Error"
	}
	c.status.Ready, c.status.Started = false, &no
	c.status.State = api.ContainerState{Terminated: &api.ContainerStateTerminated{
		ExitCode: int32(code), Reason: reason, Message: message, StartedAt: meta1.Time{Time: began}, FinishedAt: meta1.Now(),
	}}
}

// imageName returns the last element of an image's name, without tag and digest.
func imageName(image string) string {
	name, _, _ := strings.Cut(path.Base(image), "@")
	name, _, _ = strings.Cut(name, ":")
	return name
}
