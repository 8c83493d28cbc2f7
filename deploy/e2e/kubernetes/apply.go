package kubernetes

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"k8s.io/apimachinery/pkg/api/meta"
	meta1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
)

// manager is the name under which what the tests apply is recorded.
const manager = "confab-tests"

// kinds knows which resource a kind is, and asks the server again where it does not.
type kinds struct {
	mu     sync.Mutex // guards the mapper while it forgets
	mapper *restmapper.DeferredDiscoveryRESTMapper
}

func newKinds(config *rest.Config) (*kinds, error) {
	client, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return nil, err
	}
	return &kinds{mapper: restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(client))}, nil
}

func (k *kinds) mapping(kind schema.GroupVersionKind) (*meta.RESTMapping, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	mapping, err := k.mapper.RESTMapping(kind.GroupKind(), kind.Version)
	if meta.IsNoMatchError(err) {
		k.mapper.Reset() // a definition may have come since
		mapping, err = k.mapper.RESTMapping(kind.GroupKind(), kind.Version)
	}
	return mapping, err
}

// Apply applies the objects of a YAML text in their order, by server-side apply. Those that stand in a namespace and name none go into the given one. A
// kind that the server does not know yet is waited for.
func (c *Cluster) Apply(ctx context.Context, namespace string, manifests []byte) error {
	return c.apply(ctx, namespace, manifests, meta1.ApplyOptions{FieldManager: manager, Force: true})
}

// DryRun asks the server to check the objects of a YAML text as Apply would store them, and stores nothing.
func (c *Cluster) DryRun(ctx context.Context, namespace string, manifests []byte) error {
	return c.apply(ctx, namespace, manifests, meta1.ApplyOptions{FieldManager: manager, Force: true, DryRun: []string{meta1.DryRunAll}})
}

func (c *Cluster) apply(ctx context.Context, namespace string, manifests []byte, options meta1.ApplyOptions) error {
	objects, err := decode(manifests)
	if err != nil {
		return err
	}
	for _, object := range objects {
		resource, err := c.resource(ctx, object, namespace)
		if err != nil {
			return err
		}
		if _, err := resource.Apply(ctx, object.GetName(), object, options); err != nil {
			return fmt.Errorf("apply %s %s: %w", object.GetKind(), object.GetName(), err)
		}
	}
	return nil
}

// resource returns where an object is stored.
func (c *Cluster) resource(ctx context.Context, object *unstructured.Unstructured, namespace string) (dynamic.ResourceInterface, error) {
	var mapping *meta.RESTMapping
	err := until(ctx, func(context.Context) (err error) {
		mapping, err = c.kinds.mapping(object.GroupVersionKind())
		return err
	})
	if err != nil {
		return nil, err
	}
	if mapping.Scope.Name() != meta.RESTScopeNameNamespace {
		return c.objects.Resource(mapping.Resource), nil
	}
	if object.GetNamespace() == "" {
		object.SetNamespace(namespace)
	}
	return c.objects.Resource(mapping.Resource).Namespace(object.GetNamespace()), nil
}

// decode returns the objects of a YAML text; empty documents are left out.
func decode(manifests []byte) ([]*unstructured.Unstructured, error) {
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(manifests), 4096)
	var objects []*unstructured.Unstructured
	for {
		object := &unstructured.Unstructured{}
		err := decoder.Decode(object)
		if errors.Is(err, io.EOF) {
			return objects, nil
		}
		if err != nil {
			return nil, fmt.Errorf("object %d of the manifests: %w", len(objects)+1, err)
		}
		if len(object.Object) > 0 {
			objects = append(objects, object)
		}
	}
}
