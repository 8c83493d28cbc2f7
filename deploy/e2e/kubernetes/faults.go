package kubernetes

import (
	"context"
	"fmt"
	"time"

	api "k8s.io/api/core/v1"
	meta1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// Pods returns the pods of a namespace that a selector such as "app=edge" matches, as the API server has them.
func (c *Cluster) Pods(ctx context.Context, namespace, selector string) ([]api.Pod, error) {
	list, err := c.core.Pods(namespace).List(ctx, meta1.ListOptions{LabelSelector: selector})
	if err != nil {
		return nil, err
	}
	return list.Items, nil
}

// Address returns the address of a service.
func (c *Cluster) Address(ctx context.Context, namespace, service string) (string, error) {
	found, err := c.core.Services(namespace).Get(ctx, service, meta1.GetOptions{})
	if err != nil {
		return "", err
	}
	return found.Spec.ClusterIP, nil
}

// Kill ends, as kill -9 does, every process that runs in a pod that the selector matches. The node starts them again.
func (c *Cluster) Kill(namespace, selector string) error {
	wanted, err := labels.Parse(selector)
	if err != nil {
		return err
	}
	killed := 0
	for _, worker := range c.kubelet.workers(namespace, wanted) {
		for _, process := range worker.processes() {
			process.kill()
			killed++
		}
	}
	if killed == 0 {
		return fmt.Errorf("no process runs for %s", selector)
	}
	return nil
}

// KillNext ends, as kill -9 does, the next processes that start in pods that the selector matches, one for each delay, which counts from the start.
func (c *Cluster) KillNext(namespace, selector string, delays ...time.Duration) error {
	wanted, err := labels.Parse(selector)
	if err != nil {
		return err
	}
	c.kubelet.mu.Lock()
	defer c.kubelet.mu.Unlock()
	c.kubelet.doomed = append(c.kubelet.doomed, doom{namespace, wanted, delays})
	return nil
}

// doom says that processes are to be killed while they start.
type doom struct {
	namespace string
	pods      labels.Selector
	delays    []time.Duration
}

// doom kills a process that has just started, where somebody wants that.
func (k *kubelet) doom(p *pod, started *process) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for i := range k.doomed {
		d := &k.doomed[i]
		if len(d.delays) > 0 && d.namespace == p.object.Namespace && d.pods.Matches(labels.Set(p.object.Labels)) {
			k.log.Info("process is to be killed", "pod", p.object.Name, "after", d.delays[0])
			time.AfterFunc(d.delays[0], started.kill)
			d.delays = d.delays[1:]
			return
		}
	}
}

// processes returns what runs in the pod.
func (p *pod) processes() []*process {
	p.mu.Lock()
	defer p.mu.Unlock()
	var running []*process
	for _, c := range p.containers {
		if c.process != nil && c.process.alive() {
			running = append(running, c.process)
		}
	}
	return running
}
