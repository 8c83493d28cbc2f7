package lab

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/deploy/natsconfig"
	"github.com/confab-im/confab/deploy/process"
	"github.com/confab-im/confab/deploy/standalone"
)

// Topology says how confab is spread over processes.
type Topology string

// The topologies.
const (
	One       Topology = "one"       // confab up: everything in one process
	Processes Topology = "processes" // a NATS server, two edges and two instances of each function, each a process with a NATS user of its own
	Cluster   Topology = "cluster"   // the same with three servers, which keep three copies of everything
)

// topologies says how each is laid out.
var topologies = map[Topology]func(s *system) error{
	One:       (*system).layOutOne,
	Processes: (*system).layOutProcesses,
	Cluster:   (*system).layOutCluster,
}

// The kinds of processes that are no functions.
const (
	kindConfab = "confab" // the all-in-one
	kindServer = "server"
	kindEdge   = "edge"
)

// functionKinds is the functions of confab, of which there are two instances each.
var functionKinds = []string{"auth", "conversations", "history", "presence", "receipts", "send"}

const instances = 2 // of each edge and function

// system is the processes of confab, and the networks in front of them and between them.
type system struct {
	lab    *Lab
	parts  []*part  // in the order in which they start
	fronts []*proxy // between clients and edges: clients that use one reach another edge only where the first is gone
	links  []*proxy // between NATS and edges and functions, by the name of the part, and between servers, by the names of both
	looks  func(user string) (process.NATSConfig, bool)
	ready  func(ctx context.Context) error // done between the start of servers and that of all others; nil = nothing
}

// What programs say when they serve.
var (
	bannerSays   = regexp.MustCompile(`Open +https?://([^/\s]+)/`)
	edgeSays     = regexp.MustCompile(`edge is ready.*\burl"?[=:]"?https?://([^\s"/]+)`)
	functionSays = regexp.MustCompile(`instance is up`)
	serverSays   = regexp.MustCompile(`nats server is ready`)
)

func (s *system) add(name, kind string, serves *regexp.Regexp, args func() []string) *part {
	p := &part{name: name, kind: kind, program: s.lab.config.Program, args: args, serves: serves, log: s.lab.config.Log, history: s.lab.history}
	s.parts = append(s.parts, p)
	return p
}

// front adds a network between clients and what they connect to.
func (s *system) front(kind string) (*proxy, error) {
	p, err := newProxy(fmt.Sprintf("clients-%d", len(s.fronts)+1), kind)
	if err == nil {
		s.fronts = append(s.fronts, p)
	}
	return p, err
}

// layOutOne is the all-in-one, behind one network.
func (s *system) layOutOne() error {
	front, err := s.front(linkClients)
	if err != nil {
		return err
	}
	ops, err := s.opsAddress()
	if err != nil {
		return err
	}
	p := s.add(kindConfab, kindConfab, bannerSays, func() []string {
		// Without the cache, which is meant to grow, memory that is kept by mistake shows.
		args := []string{"up", "--cache-mib", "0", "--listen", "127.0.0.1:0", "--nats-listen", "127.0.0.1:0", "--ops-listen", ops, "--data", s.lab.config.Data,
			"--profile", s.profile()}
		return slices.Concat(args, s.limits(), s.accounts())
	})
	p.ops, p.at = ops, func(address string) { front.to(address) }
	s.looks = func(user string) (process.NATSConfig, bool) { return standalone.Local(s.lab.config.Data, user) }
	return nil
}

// layOutProcesses is one server, and everything else twice.
func (s *system) layOutProcesses() error {
	address, err := freeAddress()
	if err != nil {
		return err
	}
	keys := filepath.Join(s.lab.config.Data, "nats")
	if err := s.command("nats-config", "--out", keys, "--admin", "--profile", s.profile(), "--listen", address); err != nil {
		return err
	}
	s.add(serverName(0), kindServer, serverSays, func() []string {
		return []string{"nats", "--config", filepath.Join(keys, natsconfig.ServerFile)}
	})
	return s.layOutPrograms(keys, 1, address)
}

// servers is how many there are in a cluster.
const servers = 3

// layOutCluster is three servers, with a network between any two of them, and everything else twice.
func (s *system) layOutCluster() error {
	var clients, listens [servers]string
	for i := range servers {
		for _, list := range []*[servers]string{&clients, &listens} {
			var err error
			if list[i], err = freeAddress(); err != nil {
				return err
			}
		}
	}
	keys := filepath.Join(s.lab.config.Data, "nats")
	for i := range servers {
		routes, err := s.routes(i, listens[i+1:])
		if err != nil {
			return err
		}
		name := serverName(i)
		if err := s.command("nats-config", "--out", keys, "--admin", "--profile", s.profile(), "--cluster", "lab", "--server", name,
			"--listen", clients[i], "--cluster-listen", listens[i], "--routes", strings.Join(routes, ",")); err != nil {
			return err
		}
		file := filepath.Join(keys, "nats-server-"+name+".conf")
		if err := keepAddresses(file); err != nil {
			return err
		}
		s.add(name, kindServer, serverSays, func() []string { return []string{"nats", "--config", file} })
	}
	return s.layOutPrograms(keys, servers, clients[:]...)
}

func serverName(i int) string { return fmt.Sprintf("server-%d", i+1) }

// routes adds the networks between a server and those after it, and returns where it connects to them. Of any two servers only the one before connects, so that one network has all that
// passes between them.
func (s *system) routes(server int, others []string) ([]string, error) {
	list := []string{nowhere} // what a server takes for itself: it must have a route, and the last one has no other
	for i, listens := range others {
		p, err := newProxy(serverName(server)+" "+serverName(server+1+i), linkRoute)
		if err != nil {
			return nil, err
		}
		p.to(listens)
		s.links = append(s.links, p)
		list = append(list, p.address())
	}
	return list, nil
}

// nowhere is what servers tell each other of where they listen for each other. As it is the same for all, each takes it for itself and does not connect to it.
const nowhere = "localhost:1"

// keepAddresses has a server not tell clients and other servers where the others are, as behind an address translation: they would go there past the networks that fail.
func keepAddresses(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	const begin = "cluster {\n"
	if !strings.Contains(string(text), begin) {
		return fmt.Errorf("%s has no cluster", file)
	}
	return os.WriteFile(file, []byte(strings.Replace(string(text), begin, begin+"  no_advertise: true\n  advertise: \""+nowhere+"\"\n", 1)), 0o600)
}

// profile returns what the servers are told about when they sync.
func (s *system) profile() string {
	if s.lab.config.Sync == SyncDefault {
		return string(standalone.ProfileFast)
	}
	return string(standalone.ProfileStandalone)
}

// layOutPrograms adds edges and functions that use the servers at some addresses, each over a network of its own.
func (s *system) layOutPrograms(keys string, replicas int, servers ...string) error {
	url := "nats://" + strings.Join(servers, ",nats://")
	s.looks = func(user string) (process.NATSConfig, bool) {
		return process.NATSConfig{URL: url, NKey: natsconfig.SeedFile(keys, user)}, true
	}
	s.ready = func(ctx context.Context) error {
		return s.command("declare", "--nats-url", url, "--nats-nkey", natsconfig.SeedFile(keys, natsconfig.Deployer), "--replicas", fmt.Sprint(replicas), "--wait", "1m")
	}
	for _, f := range functionKinds {
		for i := range instances {
			name := fmt.Sprintf("%s-%d", f, i+1)
			link, err := s.link(name, linkFunction, i, servers)
			if err != nil {
				return err
			}
			args := []string{"function", f, "--nats-url", "nats://" + link.address(), "--nats-nkey", natsconfig.SeedFile(keys, f), "--unit", name}
			if f == "auth" {
				args = append(args, s.accounts()...)
			}
			s.add(name, f, functionSays, func() []string { return args })
		}
	}
	var mu sync.Mutex
	addresses := make([]string, instances)
	for i := range instances {
		if _, err := s.front(linkClients); err != nil {
			return err
		}
		name := fmt.Sprintf("edge-%d", i+1)
		link, err := s.link(name, linkEdge, i, servers)
		if err != nil {
			return err
		}
		link.through(s.lab.swallows.filter)
		ops, err := s.opsAddress()
		if err != nil {
			return err
		}
		edge := s.add(name, kindEdge, edgeSays, func() []string {
			args := []string{"edge", "--nats-url", "nats://" + link.address(), "--nats-nkey", natsconfig.SeedFile(keys, natsconfig.Edge),
				"--listen", "127.0.0.1:0", "--ops-listen", ops, "--drain-window", "2s"}
			return append(args, s.limits()...)
		})
		edge.ops, edge.at = ops, func(address string) {
			mu.Lock()
			defer mu.Unlock()
			addresses[i] = address
			for j, front := range s.fronts {
				front.to(append(slices.Clone(addresses[j:]), addresses[:j]...)...)
			}
		}
	}
	return nil
}

// link adds a network between a program and the servers; the server that it prefers differs from one program to the next.
func (s *system) link(name, kind string, prefer int, servers []string) (*proxy, error) {
	p, err := newProxy(name, kind)
	if err != nil {
		return nil, err
	}
	p.prefer(prefer % len(servers))
	p.to(servers...)
	s.links = append(s.links, p)
	return p, nil
}

// command runs a command of confab to its end.
func (s *system) command(args ...string) error {
	if out, err := exec.Command(s.lab.config.Program, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("confab %s: %w\n%s", args[0], err, out)
	}
	return nil
}

// start starts all processes and waits until they serve. They are kept up until ctx ends.
func (s *system) start(ctx context.Context) error {
	servers, others := s.of(kindServer), slices.DeleteFunc(slices.Clone(s.parts), func(p *part) bool { return p.kind == kindServer })
	for i, group := range [][]*part{servers, others} {
		for _, p := range group {
			p.keep(ctx)
		}
		if err := all(group, func(p *part) error { return p.await(ctx) }); err != nil {
			return err
		}
		if i == 0 && s.ready != nil {
			if err := s.ready(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// stop ends all processes as an operator does, servers last.
func (s *system) stop(ctx context.Context) error {
	var failed error
	for _, last := range []bool{false, true} {
		group := slices.DeleteFunc(slices.Clone(s.parts), func(p *part) bool { return (p.kind == kindServer) != last })
		failed = errors.Join(failed, all(group, func(p *part) error { return p.stop(ctx) }))
	}
	return failed
}

// close ends the networks, and waits for the processes, whose context has ended.
func (s *system) close() {
	for _, p := range s.parts {
		p.kept.Wait()
	}
	for _, p := range append(s.fronts, s.links...) {
		p.close()
	}
}

// of returns the processes of a kind: that of a function, one of those above, or "function" for those of all functions.
func (s *system) of(kind string) []*part {
	var found []*part
	for _, p := range s.parts {
		if p.kind == kind || kind == linkFunction && slices.Contains(functionKinds, p.kind) {
			found = append(found, p)
		}
	}
	return found
}

// broken returns why the run cannot go on: a process that cannot be started, or ended in a way that no fault explains.
func (s *system) broken() error {
	return all(s.parts, (*part).broken)
}

// connect connects as a NATS user, past all networks that fail.
func (s *system) connect(user string) (*nats.Conn, error) {
	config, ok := s.looks(user)
	if !ok {
		return nil, errors.New("the data directory does not say how to reach its NATS server")
	}
	nc, _, err := config.Connect("faultlab", slog.New(slog.DiscardHandler))
	return nc, err
}

// all does something with each process at once and returns what failed.
func all(parts []*part, do func(p *part) error) error {
	failed := make([]error, len(parts))
	var wg sync.WaitGroup
	for i, p := range parts {
		wg.Go(func() { failed[i] = do(p) })
	}
	wg.Wait()
	return errors.Join(failed...)
}

// opsAddress returns where a process is to say whether it is ready; empty = nobody asks.
func (s *system) opsAddress() (string, error) {
	if len(s.lab.disks) == 0 {
		return "", nil
	}
	return freeAddress()
}

// freeAddress returns an address on which nobody listens, outside of the range from which systems take ports for connections.
func freeAddress() (string, error) {
	var last error
	for range 100 {
		address := fmt.Sprintf("127.0.0.1:%d", 12000+rand.IntN(20000))
		listener, err := net.Listen("tcp", address)
		if err != nil {
			last = err
			continue
		}
		return address, listener.Close()
	}
	return "", last
}
