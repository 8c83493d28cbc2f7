package kubernetes

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	api "k8s.io/api/core/v1"
	errs "k8s.io/apimachinery/pkg/api/errors"
	meta1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// pod is one pod on the node, from its binding to its end.
type pod struct {
	node   *kubelet
	object *api.Pod // as it was when it came; its specification does not change
	ip     string
	root   string
	began  time.Time

	asked chan struct{} // closed when it is to end
	dirty chan struct{} // holds one word when the status is to be reported

	mu         sync.Mutex // guards what follows
	grace      time.Duration
	ending     bool
	containers []*container // first those that initialise, then the others
	phase      api.PodPhase
	trouble    string // why it does not start
}

func newPod(k *kubelet, object *api.Pod) *pod {
	p := &pod{
		node: k, object: object.DeepCopy(), ip: k.network.pod(), root: filepath.Join(k.dir, "pods", string(object.UID)), began: time.Now(),
		asked: make(chan struct{}), dirty: make(chan struct{}, 1), phase: api.PodPending,
	}
	p.object.Status.PodIP, p.object.Spec.NodeName = p.ip, node
	for _, spec := range p.object.Spec.InitContainers {
		p.containers = append(p.containers, newContainer(p, spec, true))
	}
	for _, spec := range p.object.Spec.Containers {
		p.containers = append(p.containers, newContainer(p, spec, false))
	}
	return p
}

// run takes the pod from its binding to its end. The object's deletion comes last, so that whoever sees it gone can rely on the processes being gone.
func (p *pod) run(ctx context.Context) {
	log := p.node.log.With("pod", p.object.Namespace+"/"+p.object.Name)
	binding := &api.Binding{ObjectMeta: meta1.ObjectMeta{Name: p.object.Name, UID: p.object.UID}, Target: api.ObjectReference{Kind: "Node", Name: node}}
	if err := p.node.core.Pods(p.object.Namespace).Bind(ctx, binding, meta1.CreateOptions{}); err != nil {
		log.Warn("pod was not bound", "err", err)
		return
	}
	log.Info("pod is bound", "ip", p.ip)
	var reporter sync.WaitGroup
	over := make(chan struct{})
	reporter.Go(func() { p.report(ctx, over) })
	ran := make(chan struct{})
	go func() {
		defer close(ran)
		p.work(ctx)
	}()
	select {
	case <-p.asked:
		p.terminate()
	case <-ran:
	case <-ctx.Done():
		p.terminate()
	}
	<-ran
	close(over)
	reporter.Wait()
	p.leave()
	if ctx.Err() != nil {
		return
	}
	select { // a pod that has finished stays until somebody deletes it
	case <-p.asked:
	case <-ctx.Done():
		return
	}
	now := int64(0)
	err := p.node.core.Pods(p.object.Namespace).Delete(ctx, p.object.Name,
		meta1.DeleteOptions{GracePeriodSeconds: &now, Preconditions: &meta1.Preconditions{UID: &p.object.UID}})
	if err != nil && !errs.IsNotFound(err) {
		log.Warn("pod was not deleted", "err", err)
	}
	log.Info("pod is gone")
}

// work makes the root directory and runs the containers: those that initialise one by one, then the others at once, until they end for good.
func (p *pod) work(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-p.asked:
			cancel()
		case <-ctx.Done():
		}
	}()
	err := until(ctx, func(ctx context.Context) error {
		err := p.furnish(ctx)
		if err != nil {
			p.set(func() { p.trouble = err.Error() })
		}
		return err
	})
	if err != nil {
		return
	}
	p.set(func() { p.trouble = "" })
	for _, c := range p.containers {
		if c.first {
			if c.run(ctx); !c.succeeded() {
				p.set(func() { p.phase = api.PodFailed })
				return
			}
		}
	}
	p.set(func() { p.phase = api.PodRunning })
	var all sync.WaitGroup
	for _, c := range p.containers {
		if !c.first {
			all.Go(func() { c.run(ctx) })
		}
	}
	all.Wait()
	phase := api.PodSucceeded
	if slices.ContainsFunc(p.containers, func(c *container) bool { return !c.succeeded() }) {
		phase = api.PodFailed
	}
	p.set(func() { p.phase = phase })
}

// end asks the pod to end within a grace. A shorter grace replaces a longer one.
func (p *pod) end(grace time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ending {
		return
	}
	p.ending, p.grace = true, grace
	close(p.asked)
}

// terminate asks every container to end and kills what is left after the grace; without one, at once.
func (p *pod) terminate() {
	p.mu.Lock()
	grace := p.grace
	p.mu.Unlock()
	var all sync.WaitGroup
	for _, c := range p.containers {
		all.Go(func() { c.terminate(grace) })
	}
	all.Wait()
}

// leave gives back what outlives the pod, its claims, and removes its root directory.
func (p *pod) leave() {
	for _, volume := range p.object.Spec.Volumes {
		if volume.PersistentVolumeClaim != nil {
			_ = os.Rename(p.volume(volume.Name), p.claim(volume.PersistentVolumeClaim.ClaimName))
		}
	}
	if err := os.RemoveAll(p.root); err != nil {
		p.node.log.Warn("root directory of a pod stays", "err", err)
	}
}

// set changes what the status tells, and has it reported.
func (p *pod) set(change func()) {
	p.mu.Lock()
	change()
	p.mu.Unlock()
	select {
	case p.dirty <- struct{}{}:
	default:
	}
}

// report writes the status whenever it has changed; the last time when the pod is over.
func (p *pod) report(ctx context.Context, over <-chan struct{}) {
	for last := false; !last; {
		select {
		case <-p.dirty:
		case <-over:
			last = true
		case <-ctx.Done():
			return
		}
		status := p.status()
		patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": p.object.UID}, "status": status})
		if err == nil {
			_, err = p.node.core.Pods(p.object.Namespace).Patch(ctx, p.object.Name, types.MergePatchType, patch, meta1.PatchOptions{}, "status")
		}
		if err != nil && !errs.IsNotFound(err) && ctx.Err() == nil {
			p.node.log.Warn("status was not stored", "pod", p.object.Name, "err", err)
		}
	}
}

// status returns what the API server is to know.
func (p *pod) status() api.PodStatus {
	p.mu.Lock()
	defer p.mu.Unlock()
	status := api.PodStatus{
		Phase: p.phase, Message: p.trouble, PodIP: p.ip, PodIPs: []api.PodIP{{IP: p.ip}}, HostIP: p.node.network.control(0),
		HostIPs: []api.HostIP{{IP: p.node.network.control(0)}}, StartTime: &meta1.Time{Time: p.began},
	}
	ready, initialized := p.phase == api.PodRunning, p.phase != api.PodPending
	for _, c := range p.containers {
		if c.first {
			status.InitContainerStatuses = append(status.InitContainerStatuses, c.status)
			continue
		}
		ready = ready && c.status.Ready
		status.ContainerStatuses = append(status.ContainerStatuses, c.status)
	}
	for _, condition := range []struct {
		kind api.PodConditionType
		met  bool
	}{{api.PodScheduled, true}, {api.PodInitialized, initialized}, {api.ContainersReady, ready}, {api.PodReady, ready}} {
		word := api.ConditionFalse
		if condition.met {
			word = api.ConditionTrue
		}
		status.Conditions = append(status.Conditions, api.PodCondition{Type: condition.kind, Status: word, LastTransitionTime: meta1.Now()})
	}
	return status
}

// grace returns how long a pod that is deleted may take.
func grace(object *api.Pod) time.Duration {
	if seconds := object.DeletionGracePeriodSeconds; seconds != nil {
		return time.Duration(*seconds) * time.Second
	}
	return 0
}
