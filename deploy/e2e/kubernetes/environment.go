package kubernetes

import (
	"context"
	"fmt"
	"net"
	"regexp"
	"strconv"
	"strings"

	api "k8s.io/api/core/v1"
	errs "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	meta1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// environment is a container's environment, in the order in which it was said.
type environment struct {
	order  []string
	values map[string]string
}

func (e *environment) set(name, value string) {
	if _, known := e.values[name]; !known {
		e.order = append(e.order, name)
	}
	e.values[name] = value
}

// environment returns what the container's process finds in its environment: what every container has, the addresses of the services in its namespace unless
// the pod does without, and what its specification says.
func (c *container) environment(ctx context.Context) (*environment, error) {
	e := &environment{values: map[string]string{}}
	e.set("PATH", "/bin")
	e.set("HOME", "/")
	e.set("HOSTNAME", c.pod.object.Name)
	if links := c.pod.object.Spec.EnableServiceLinks; links == nil || *links {
		c.pod.node.services.links(c.pod.object.Namespace, e)
	}
	for _, from := range c.spec.EnvFrom {
		if err := c.setAll(ctx, e, from); err != nil {
			return nil, err
		}
	}
	for _, variable := range c.spec.Env {
		value, err := expand(variable.Value, e), error(nil)
		if variable.ValueFrom != nil {
			value, err = c.valueFrom(ctx, variable.ValueFrom)
		}
		if err != nil {
			return nil, fmt.Errorf("variable %s: %w", variable.Name, err)
		}
		if value != "" || variable.ValueFrom == nil {
			e.set(variable.Name, value)
		}
	}
	return e, nil
}

// links sets the variables that tell a container of the services in its namespace, and surprise programs that read variables with the same beginning.
func (s *services) links(namespace string, e *environment) {
	for _, service := range s.list() {
		if service.Namespace != namespace || !hasAddress(service) || len(service.Spec.Ports) == 0 {
			continue
		}
		name := strings.ToUpper(strings.ReplaceAll(service.Name, "-", "_"))
		port := strconv.Itoa(int(service.Spec.Ports[0].Port))
		e.set(name+"_SERVICE_HOST", service.Spec.ClusterIP)
		e.set(name+"_SERVICE_PORT", port)
		e.set(name+"_PORT", "tcp://"+net.JoinHostPort(service.Spec.ClusterIP, port))
	}
}

func (c *container) setAll(ctx context.Context, e *environment, from api.EnvFromSource) error {
	data := map[string][]byte{}
	var err error
	switch {
	case from.SecretRef != nil:
		data, err = c.pod.secret(ctx, from.SecretRef.Name, override(false, from.SecretRef.Optional))
	case from.ConfigMapRef != nil:
		data, err = c.pod.configMap(ctx, from.ConfigMapRef.Name, override(false, from.ConfigMapRef.Optional))
	}
	for name, value := range data {
		e.set(from.Prefix+name, string(value))
	}
	return err
}

func (c *container) valueFrom(ctx context.Context, from *api.EnvVarSource) (string, error) {
	switch {
	case from.FieldRef != nil:
		return c.pod.field(from.FieldRef.FieldPath)
	case from.ResourceFieldRef != nil:
		return c.amount(from.ResourceFieldRef)
	case from.SecretKeyRef != nil:
		optional := override(false, from.SecretKeyRef.Optional)
		data, err := c.pod.secret(ctx, from.SecretKeyRef.Name, optional)
		return key(data, from.SecretKeyRef.Key, optional, err)
	case from.ConfigMapKeyRef != nil:
		optional := override(false, from.ConfigMapKeyRef.Optional)
		data, err := c.pod.configMap(ctx, from.ConfigMapKeyRef.Name, optional)
		return key(data, from.ConfigMapKeyRef.Key, optional, err)
	}
	return "", fmt.Errorf("its source is of a kind that this node does not know")
}

func key(data map[string][]byte, key string, optional bool, err error) (string, error) {
	value, found := data[key]
	if err == nil && !found && !optional {
		err = fmt.Errorf("there is no key %q", key)
	}
	return string(value), err
}

// amount returns what the container may use at most, or is promised, in the unit that is asked for.
func (c *container) amount(ref *api.ResourceFieldSelector) (string, error) {
	kind, name, _ := strings.Cut(ref.Resource, ".")
	list := c.spec.Resources.Limits
	if kind == "requests" {
		list = c.spec.Resources.Requests
	}
	quantity, found := list[api.ResourceName(name)]
	if !found {
		return "", fmt.Errorf("the container has no %s", ref.Resource)
	}
	unit := ref.Divisor
	if unit.IsZero() {
		unit = resource.MustParse("1")
	}
	whole := (quantity.MilliValue() + unit.MilliValue() - 1) / unit.MilliValue()
	return strconv.FormatInt(whole, 10), nil
}

// secret returns a Secret's data, none where it may be missing and is.
func (p *pod) secret(ctx context.Context, name string, optional bool) (map[string][]byte, error) {
	object, err := p.node.core.Secrets(p.object.Namespace).Get(ctx, name, meta1.GetOptions{})
	if optional && errs.IsNotFound(err) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	return object.Data, nil
}

// configMap returns a ConfigMap's data, none where it may be missing and is.
func (p *pod) configMap(ctx context.Context, name string, optional bool) (map[string][]byte, error) {
	object, err := p.node.core.ConfigMaps(p.object.Namespace).Get(ctx, name, meta1.GetOptions{})
	if optional && errs.IsNotFound(err) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	data := map[string][]byte{}
	for name, text := range object.Data {
		data[name] = []byte(text)
	}
	for name, bytes := range object.BinaryData {
		data[name] = bytes
	}
	return data, nil
}

var subscripted = regexp.MustCompile(`^metadata\.(labels|annotations)\['([^']+)'\]$`)

// field returns what the pod knows of itself.
func (p *pod) field(path string) (string, error) {
	if match := subscripted.FindStringSubmatch(path); match != nil {
		return map[string]map[string]string{"labels": p.object.Labels, "annotations": p.object.Annotations}[match[1]][match[2]], nil
	}
	switch path {
	case "metadata.name":
		return p.object.Name, nil
	case "metadata.namespace":
		return p.object.Namespace, nil
	case "metadata.uid":
		return string(p.object.UID), nil
	case "spec.nodeName":
		return node, nil
	case "spec.serviceAccountName":
		return p.object.Spec.ServiceAccountName, nil
	case "status.podIP", "status.podIPs":
		return p.ip, nil
	case "status.hostIP":
		return p.node.network.control(0), nil
	}
	return "", fmt.Errorf("this node does not know the field %s", path)
}

var reference = regexp.MustCompile(`\$\$|\$\([A-Za-z_][A-Za-z0-9_.-]*\)`)

// expand replaces $(NAME) by what the environment says, and leaves what it does not know. $$ stands for one $.
func expand(text string, e *environment) string {
	return reference.ReplaceAllStringFunc(text, func(match string) string {
		if match == "$$" {
			return "$"
		}
		if value, known := e.values[match[2:len(match)-1]]; known {
			return value
		}
		return match
	})
}
