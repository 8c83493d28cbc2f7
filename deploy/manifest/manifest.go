// Package manifest reads function.yaml, which stands beside the code of each function and says what the function is and needs: its methods, how
// it scales, what it may say on NATS, its settings. Everything that runs a function somewhere is rendered from it, so that the parts of a deployment
// cannot disagree. What a manifest repeats of the code is compared with it by a test.
package manifest

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/confab-im/confab/functions/auth"
	"github.com/confab-im/confab/functions/conversations"
	"github.com/confab-im/confab/functions/history"
	"github.com/confab-im/confab/functions/presence"
	"github.com/confab-im/confab/functions/receipts"
	"github.com/confab-im/confab/functions/send"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// Kind says what makes a function work.
type Kind string

// The kinds. A function that answers calls may work on events and jobs beside.
const (
	KindCall  Kind = "call"  // answers calls
	KindEvent Kind = "event" // answers none, and works on entries of conversations
)

// Manifest is one function.yaml.
type Manifest struct {
	Function    subjects.Function          `yaml:"function"`
	Kind        Kind                       `yaml:"kind"`
	Command     []string                   `yaml:"command"` // what runs an instance in the folder of the manifest; none = the Go program there
	Methods     map[subjects.Method]Method `yaml:"methods"`
	Concurrency int                        `yaml:"concurrency"` // calls that one instance works on at once, from 1
	Scale       Scale                      `yaml:"scale"`
	Hold        time.Duration              `yaml:"hold"`   // how long a caller keeps a call while no instance is up; above 0
	Events      []wire.EntryKind           `yaml:"events"` // the kinds of entries that it works on; none = of no conversation
	Jobs        bool                       `yaml:"jobs"`   // it calls itself later
	NATS        Permissions                `yaml:"nats"`
	Environment []string                   `yaml:"environment"` // the variables of the function's own settings
	Resources   Resources                  `yaml:"resources"`
}

// Method says who may make a call and how callers treat it, as functions.Method does.
type Method struct {
	Public     bool          `yaml:"public"`
	Anonymous  bool          `yaml:"anonymous"`
	Idempotent bool          `yaml:"idempotent"`
	Passive    bool          `yaml:"passive"`
	Timeout    time.Duration `yaml:"timeout"` // above 0
}

// Scale bounds the number of instances.
type Scale struct {
	Min  int `yaml:"min"`  // kept while nothing happens; 0 lets the function sleep
	Max  int `yaml:"max"`  // from 1 and from Min
	Wake int `yaml:"wake"` // started at once when a call comes and there is none, from 1 to Max
}

// Permissions says what a function may do on NATS beside answering its calls, which every function may. The entries of all but Calls are
// names of classes, which package natsconfig knows; those of Publish and Subscribe may also be subject patterns outside of confab's.
type Permissions struct {
	Calls     []string `yaml:"calls"`     // methods of other functions, such as send.append
	Publish   []string `yaml:"publish"`   // what it says without storing it
	Subscribe []string `yaml:"subscribe"` // what it hears
	Read      []string `yaml:"read"`      // streams and buckets
	Write     []string `yaml:"write"`     // records
	Erase     []string `yaml:"erase"`     // streams and buckets in which it erases single messages
}

// Resources is what an instance is given, in the notation of Kubernetes.
type Resources struct {
	CPU    string `yaml:"cpu"`
	Memory string `yaml:"memory"`
}

// Parse reads one manifest. A key that does not exist, a second document and a value out of its bounds are errors.
func Parse(data []byte) (Manifest, error) {
	var m Manifest
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	decoder.KnownFields(true)
	if err := decoder.Decode(&m); err != nil {
		return Manifest{}, fmt.Errorf("read a manifest: %w", err)
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return Manifest{}, fmt.Errorf("read the manifest of %q: it must be one document", m.Function)
	}
	if err := m.Validate(); err != nil {
		return Manifest{}, fmt.Errorf("manifest of %q: %w", m.Function, err)
	}
	return m, nil
}

// Files reads the manifests in files; the error names the first that is broken.
func Files(paths []string) ([]Manifest, error) {
	var all []Manifest
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		m, err := Parse(data)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		all = append(all, m)
	}
	return all, nil
}

// The forms of names in a manifest.
var (
	variable = regexp.MustCompile(`^CONFAB_[A-Z0-9]+(_[A-Z0-9]+)*$`)
	cpu      = regexp.MustCompile(`^[1-9][0-9]*m?$`)
	memory   = regexp.MustCompile(`^[1-9][0-9]*(Mi|Gi)$`)
)

// Validate returns an error that names the first key whose value is out of its bounds.
func (m Manifest) Validate() error {
	if _, _, err := subjects.ParseCall(string(m.Function) + ".any"); err != nil {
		return fmt.Errorf("function: %w", err)
	}
	if err := m.validateWork(); err != nil {
		return err
	}
	for name, method := range m.Methods {
		call := string(m.Function) + "." + string(name)
		if _, _, err := subjects.ParseCall(call); err != nil {
			return fmt.Errorf("methods: %q: %w", call, err)
		}
		if method.Timeout <= 0 {
			return fmt.Errorf("methods: %s: timeout must be above 0", name)
		}
		if method.Anonymous && !method.Public {
			return fmt.Errorf("methods: %s: what is anonymous must be public", name)
		}
	}
	switch {
	case slices.Contains(m.Command, "") || strings.ContainsRune(strings.Join(m.Command, ""), 0):
		return errors.New("command: a program and its arguments, none of them empty")
	case m.Concurrency < 1:
		return errors.New("concurrency: must be 1 or more")
	case m.Scale.Min < 0 || m.Scale.Max < max(1, m.Scale.Min) || m.Scale.Wake < 1 || m.Scale.Wake > m.Scale.Max:
		return fmt.Errorf("scale: {min: %d, max: %d, wake: %d} is not 0 ≤ min ≤ max and 1 ≤ wake ≤ max", m.Scale.Min, m.Scale.Max, m.Scale.Wake)
	case m.Hold <= 0:
		return errors.New("hold: must be above 0")
	case !cpu.MatchString(m.Resources.CPU) || !memory.MatchString(m.Resources.Memory):
		return fmt.Errorf("resources: {cpu: %q, memory: %q} is not of the form {cpu: 100m, memory: 64Mi}", m.Resources.CPU, m.Resources.Memory)
	}
	for _, name := range m.Environment {
		if !variable.MatchString(name) {
			return fmt.Errorf("environment: %q is not of the form CONFAB_NAME", name)
		}
	}
	for _, call := range m.NATS.Calls {
		if _, _, err := subjects.ParseCall(call); err != nil {
			return fmt.Errorf("nats: calls: %q: %w", call, err)
		}
		if strings.HasPrefix(call, string(m.Function)+".") {
			return fmt.Errorf("nats: calls: %s: a function does not call itself", call)
		}
	}
	return nil
}

// validateWork checks what makes the function work.
func (m Manifest) validateWork() error {
	switch {
	case m.Kind != KindCall && m.Kind != KindEvent:
		return fmt.Errorf("kind: %q is neither %s nor %s", m.Kind, KindCall, KindEvent)
	case m.Kind == KindCall && len(m.Methods) == 0:
		return fmt.Errorf("methods: a function of the kind %s has one at least", KindCall)
	case m.Kind == KindEvent && len(m.Methods) > 0 && !m.Jobs:
		return fmt.Errorf("methods: a function of the kind %s has some for its jobs only; say jobs: true, or kind: %s", KindEvent, KindCall)
	case m.Kind == KindEvent && len(m.Events) == 0:
		return fmt.Errorf("events: a function of the kind %s names one at least", KindEvent)
	case m.Jobs && len(m.Methods) == 0:
		return errors.New("jobs: a function calls methods of its own later, and there are none")
	}
	for i, kind := range m.Events {
		if !kind.Known() || slices.Contains(m.Events[:i], kind) {
			return fmt.Errorf("events: %q is no kind of entry, or stands twice", kind)
		}
	}
	if _, taken := m.Methods[wire.MethodEntry]; taken && len(m.Events) > 0 {
		return fmt.Errorf("methods: the name %s is taken by the handler of entries", wire.MethodEntry)
	}
	return nil
}

// Names returns the names of the methods in alphabetical order.
func (m Manifest) Names() []subjects.Method {
	names := make([]subjects.Method, 0, len(m.Methods))
	for name := range m.Methods {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// BuiltIn returns the manifests of confab's own functions, in alphabetical order. It panics if one of them is broken, which a test rules out.
func BuiltIn() []Manifest {
	var all []Manifest
	for _, data := range [][]byte{auth.Manifest, conversations.Manifest, history.Manifest, presence.Manifest, receipts.Manifest, send.Manifest} {
		m, err := Parse(data)
		if err != nil {
			panic(err)
		}
		all = append(all, m)
	}
	slices.SortFunc(all, func(a, b Manifest) int { return cmp.Compare(a.Function, b.Function) })
	return all
}
