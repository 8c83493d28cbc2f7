package kubernetes

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	api "k8s.io/api/core/v1"
	meta1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	core "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/cache"
)

// node is the name of the only node.
const node = "here"

// kubelet is the node, and the scheduler for it: it takes every pod there is, and runs the programs of its containers as processes. One goroutine a pod
// works on it.
type kubelet struct {
	dir      string
	core     core.CoreV1Interface
	network  *network
	services *services
	images   map[string]string
	log      *slog.Logger

	ctx      context.Context // of the pods' goroutines; ends with stop
	cancel   context.CancelFunc
	watches  sync.WaitGroup
	working  sync.WaitGroup
	stopping chan struct{} // ends the watches

	mu     sync.Mutex // guards what follows
	pods   map[types.UID]*pod
	doomed []doom
}

// startKubelet registers the node and watches pods and services. It returns when what is there already is known.
func (c *Cluster) startKubelet(ctx context.Context, images map[string]string) error {
	file, err := os.Create(filepath.Join(c.dir, "logs", "kubelet"))
	if err != nil {
		return err
	}
	k := &kubelet{
		dir: filepath.Join(c.dir, "node"), core: c.core, network: c.network, images: images, log: slog.New(slog.NewTextHandler(file, nil)),
		stopping: make(chan struct{}), pods: map[types.UID]*pod{},
	}
	k.ctx, k.cancel = context.WithCancel(context.WithoutCancel(ctx))
	if _, err := c.core.Nodes().Create(ctx, &api.Node{ObjectMeta: meta1.ObjectMeta{Name: node}}, meta1.CreateOptions{}); err != nil {
		return fmt.Errorf("register the node: %w", err)
	}
	pods, podWatch := k.watch("pods", &api.Pod{}, cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { k.changed(o.(*api.Pod)) },
		UpdateFunc: func(_, o any) { k.changed(o.(*api.Pod)) },
		DeleteFunc: func(o any) { k.deleted(o) },
	})
	services, serviceWatch := k.watch("services", &api.Service{}, cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { k.refresh() },
		UpdateFunc: func(any, any) { k.refresh() },
		DeleteFunc: func(any) { k.refresh() },
	})
	if k.services, err = newServices(filepath.Join(c.dir, "hosts"), services, pods); err != nil {
		return err
	}
	c.kubelet = k
	for _, watch := range []cache.Controller{podWatch, serviceWatch} {
		k.watches.Go(func() { watch.Run(k.stopping) })
	}
	if !cache.WaitForCacheSync(ctx.Done(), podWatch.HasSynced, serviceWatch.HasSynced) {
		return fmt.Errorf("watch pods and services: %w", ctx.Err())
	}
	return nil
}

func (k *kubelet) watch(resource string, object runtime.Object, handler cache.ResourceEventHandlerFuncs) (cache.Store, cache.Controller) {
	return cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: cache.NewListWatchFromClient(k.core.RESTClient(), resource, meta1.NamespaceAll, fields.Everything()),
		ObjectType:    object,
		Handler:       handler,
	})
}

// changed starts to work on a pod that is new, and tells the one who works on it what has become of it.
func (k *kubelet) changed(object *api.Pod) {
	k.mu.Lock()
	worker := k.pods[object.UID]
	if worker == nil && object.DeletionTimestamp == nil && object.Spec.NodeName == "" && !finished(object) {
		worker = newPod(k, object)
		k.pods[object.UID] = worker
		k.working.Go(func() {
			worker.run(k.ctx)
			k.mu.Lock()
			delete(k.pods, object.UID)
			k.mu.Unlock()
		})
	}
	k.mu.Unlock()
	if worker != nil && object.DeletionTimestamp != nil {
		worker.end(grace(object))
	}
	k.refresh()
}

func (k *kubelet) deleted(object any) {
	if tombstone, ok := object.(cache.DeletedFinalStateUnknown); ok {
		object = tombstone.Obj
	}
	k.mu.Lock()
	worker := k.pods[object.(*api.Pod).UID]
	k.mu.Unlock()
	if worker != nil {
		worker.end(0) // it was removed by force
	}
	k.refresh()
}

func (k *kubelet) refresh() {
	if err := k.services.refresh(); err != nil {
		k.log.Error("services cannot be served", "err", err)
	}
}

// stop kills what runs and waits for all goroutines.
func (k *kubelet) stop() {
	close(k.stopping)
	k.watches.Wait()
	k.cancel()
	k.working.Wait()
	k.services.close()
}

// workers returns the pods of a namespace that run here and that a selector matches.
func (k *kubelet) workers(namespace string, wanted labels.Selector) []*pod {
	k.mu.Lock()
	defer k.mu.Unlock()
	var found []*pod
	for _, worker := range k.pods {
		if worker.object.Namespace == namespace && wanted.Matches(labels.Set(worker.object.Labels)) {
			found = append(found, worker)
		}
	}
	return found
}

func finished(object *api.Pod) bool {
	return object.Status.Phase == api.PodSucceeded || object.Status.Phase == api.PodFailed
}
