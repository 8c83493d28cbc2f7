package charts

import (
	"bytes"
	"errors"
	"io"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/yaml"
)

// chartDir is the chart, from here.
const chartDir = "../../../chart"

// objects is what one rendering holds.
type objects struct {
	all      []*unstructured.Unstructured
	pods     []pod
	services []corev1.Service
	policies []networkingv1.NetworkPolicy
	budgets  []policyv1.PodDisruptionBudget
	scaled   []*unstructured.Unstructured
	configs  map[string]corev1.ConfigMap
}

// pod is the pods of one workload.
type pod struct {
	kind, name string
	replicas   *int32
	selector   *metav1.LabelSelector
	template   corev1.PodTemplateSpec
}

// component returns which part of confab the pods are.
func (p pod) component() string { return p.template.Labels["app.kubernetes.io/component"] }

// render renders the chart with values and sorts what comes out. A field that Kubernetes does not have is an error.
func render(t *testing.T, values string) objects {
	t.Helper()
	text, err := Render(chartDir, "confab", "chat", values)
	if err != nil {
		t.Fatal(err)
	}
	o := objects{configs: map[string]corev1.ConfigMap{}}
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4096)
	for {
		var raw map[string]any
		if err := decoder.Decode(&raw); errors.Is(err, io.EOF) {
			return o
		} else if err != nil {
			t.Fatal(err)
		}
		if len(raw) == 0 {
			continue
		}
		object := &unstructured.Unstructured{Object: raw}
		o.all = append(o.all, object)
		o.sort(t, object)
	}
}

func (o *objects) sort(t *testing.T, object *unstructured.Unstructured) {
	t.Helper()
	switch object.GetKind() {
	case "Deployment":
		d := typed[appsv1.Deployment](t, object)
		o.pods = append(o.pods, pod{"Deployment", d.Name, d.Spec.Replicas, d.Spec.Selector, d.Spec.Template})
	case "StatefulSet":
		s := typed[appsv1.StatefulSet](t, object)
		o.pods = append(o.pods, pod{"StatefulSet", s.Name, s.Spec.Replicas, s.Spec.Selector, s.Spec.Template})
	case "Job":
		j := typed[batchv1.Job](t, object)
		o.pods = append(o.pods, pod{"Job", j.Name, nil, &metav1.LabelSelector{MatchLabels: j.Spec.Template.Labels}, j.Spec.Template})
	case "Service":
		o.services = append(o.services, typed[corev1.Service](t, object))
	case "NetworkPolicy":
		o.policies = append(o.policies, typed[networkingv1.NetworkPolicy](t, object))
	case "PodDisruptionBudget":
		o.budgets = append(o.budgets, typed[policyv1.PodDisruptionBudget](t, object))
	case "ConfigMap":
		c := typed[corev1.ConfigMap](t, object)
		o.configs[c.Name] = c
	case "Ingress":
		typed[networkingv1.Ingress](t, object)
	case "ServiceAccount":
		typed[corev1.ServiceAccount](t, object)
	case "ScaledObject":
		o.scaled = append(o.scaled, object)
	case "TriggerAuthentication":
	default:
		t.Errorf("nobody looks at objects of the kind %s", object.GetKind())
	}
}

// typed returns an object as its type; fields that the type does not have are errors.
func typed[T any](t *testing.T, object *unstructured.Unstructured) T {
	t.Helper()
	var to T
	if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(object.Object, &to, true); err != nil {
		t.Errorf("%s %s: %v", object.GetKind(), object.GetName(), err)
	}
	return to
}

// named returns the workload of a name.
func (o objects) named(t *testing.T, name string) pod {
	t.Helper()
	for _, p := range o.pods {
		if p.name == name {
			return p
		}
	}
	t.Fatalf("there is no %s", name)
	return pod{}
}

// selects reports whether a selector matches the pods of a workload.
func selects(t *testing.T, selector *metav1.LabelSelector, p pod) bool {
	t.Helper()
	s, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		t.Fatal(err)
	}
	return s.Matches(labels.Set(p.template.Labels))
}
