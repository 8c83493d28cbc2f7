package kubernetes

import (
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	core "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/tools/cache"
)

// services makes services reachable: a proxy listens on the address of each and hands connections to pods that are ready, and a hosts file, which every
// program sees as its /etc/hosts, holds the names. There is one hosts file a namespace, since a service may be called by its bare name within its own.
type services struct {
	dir  string // of the hosts files
	all  cache.Store
	pods cache.Store

	mu      sync.Mutex
	hosts   map[string]string       // what the hosts file of each namespace says
	proxies map[string]net.Listener // by address and port
	wait    sync.WaitGroup
	closed  bool
}

func newServices(dir string, all, pods cache.Store) (*services, error) {
	return &services{dir: dir, all: all, pods: pods, hosts: map[string]string{}, proxies: map[string]net.Listener{}}, os.MkdirAll(dir, 0o755)
}

// join gives a root directory the hosts file of a namespace. It is one file for all, so that names which come later are known as well.
func (s *services) join(root, namespace string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.hosts[namespace]; !known {
		if err := s.write(namespace, s.names(namespace)); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(filepath.Join(root, "etc"), 0o755); err != nil {
		return err
	}
	return os.Link(filepath.Join(s.dir, namespace), filepath.Join(root, "etc", "hosts"))
}

// refresh brings names and proxies in line with what the API server holds. It is called after every change of a service or a pod.
func (s *services) refresh() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	for namespace := range s.hosts {
		if err := s.write(namespace, s.names(namespace)); err != nil {
			return err
		}
	}
	wanted := map[string]bool{}
	for _, service := range s.list() {
		if !hasAddress(service) || service.Spec.Selector == nil {
			continue
		}
		for _, port := range service.Spec.Ports {
			address := net.JoinHostPort(service.Spec.ClusterIP, strconv.Itoa(int(port.Port)))
			wanted[address] = true
			if err := s.listen(address, service, port.TargetPort); err != nil {
				return err
			}
		}
	}
	for address, listener := range s.proxies {
		if !wanted[address] {
			_ = listener.Close()
			delete(s.proxies, address)
		}
	}
	return nil
}

// close ends the proxies and waits for their connections' ends.
func (s *services) close() {
	s.mu.Lock()
	s.closed = true
	for _, listener := range s.proxies {
		_ = listener.Close()
	}
	s.mu.Unlock()
	s.wait.Wait()
}

func (s *services) list() []*core.Service {
	var all []*core.Service
	for _, object := range s.all.List() {
		all = append(all, object.(*core.Service))
	}
	slices.SortFunc(all, func(a, b *core.Service) int { return strings.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name) })
	return all
}

// names returns a hosts file.
func (s *services) names(namespace string) string {
	lines := map[string]bool{}
	add := func(address, name, home string) {
		line := address
		for _, suffix := range []string{".svc.cluster.local", ".svc", ""} {
			line += " " + name + "." + home + suffix
		}
		if home == namespace {
			line += " " + name
		}
		lines[line] = true
	}
	for _, service := range s.list() {
		if hasAddress(service) {
			add(service.Spec.ClusterIP, service.Name, service.Namespace)
			continue
		}
		for _, pod := range s.behind(service, service.Spec.PublishNotReadyAddresses) {
			add(pod.Status.PodIP, service.Name, service.Namespace)
			if pod.Spec.Subdomain == service.Name && pod.Spec.Hostname != "" {
				add(pod.Status.PodIP, pod.Spec.Hostname+"."+service.Name, service.Namespace)
			}
		}
	}
	return "127.0.0.1 localhost\n" + strings.Join(slices.Sorted(maps.Keys(lines)), "\n") + "\n"
}

// write changes a hosts file in place, since other directories hold the same file. Readers see the old or the new names, never none.
func (s *services) write(namespace, text string) error {
	if s.hosts[namespace] == text {
		return nil
	}
	file, err := os.OpenFile(filepath.Join(s.dir, namespace), os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	if _, err = file.WriteAt([]byte(text), 0); err == nil {
		err = file.Truncate(int64(len(text)))
	}
	s.hosts[namespace] = text
	if closing := file.Close(); err == nil {
		err = closing
	}
	return err
}

// behind returns the pods that a service selects: the ready ones, or all that have an address.
func (s *services) behind(service *core.Service, unready bool) []*core.Pod {
	selector := labels.SelectorFromSet(service.Spec.Selector)
	var found []*core.Pod
	for _, object := range s.pods.List() {
		pod := object.(*core.Pod)
		if pod.Namespace == service.Namespace && pod.Status.PodIP != "" && selector.Matches(labels.Set(pod.Labels)) &&
			(unready || isReady(pod) && pod.DeletionTimestamp == nil) {
			found = append(found, pod)
		}
	}
	return found
}

// listen starts the proxy of one port of a service, unless it is there.
func (s *services) listen(address string, service *core.Service, target intstr.IntOrString) error {
	if s.proxies[address] != nil {
		return nil
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("service %s/%s: %w", service.Namespace, service.Name, err)
	}
	s.proxies[address] = listener
	s.wait.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			s.wait.Go(func() { s.forward(client, service, target) })
		}
	})
	return nil
}

// forward hands a connection to a pod that is ready. Where there is none, it is closed.
func (s *services) forward(client net.Conn, service *core.Service, target intstr.IntOrString) {
	defer func() { _ = client.Close() }()
	ready := s.behind(service, false)
	if len(ready) == 0 {
		return
	}
	pod := ready[rand.IntN(len(ready))]
	server, err := net.Dial("tcp", net.JoinHostPort(pod.Status.PodIP, strconv.Itoa(portOf(pod, target))))
	if err != nil {
		return
	}
	s.wait.Go(func() { pipe(server, client) })
	pipe(client, server)
}

// pipe copies until one end closes, and closes both: a pod's end is the end of its connections.
func pipe(to, from net.Conn) {
	_, _ = io.Copy(to, from)
	_, _ = to.Close(), from.Close()
}

func hasAddress(service *core.Service) bool {
	return service.Spec.ClusterIP != "" && service.Spec.ClusterIP != core.ClusterIPNone
}

// portOf returns the number of a port, which may be the name that a container gives it.
func portOf(pod *core.Pod, port intstr.IntOrString) int {
	for _, container := range pod.Spec.Containers {
		for _, named := range container.Ports {
			if port.Type == intstr.String && named.Name == port.StrVal {
				return int(named.ContainerPort)
			}
		}
	}
	return port.IntValue()
}

func isReady(pod *core.Pod) bool {
	for _, condition := range pod.Status.Conditions {
		if condition.Type == core.PodReady {
			return condition.Status == core.ConditionTrue
		}
	}
	return false
}
