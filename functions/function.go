package functions

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// MaxDescription is the largest length of a function's description, in bytes: more does not fit a table of 80 columns.
const MaxDescription = 30

// DefaultTimeout is how long a method may take when it names no time of its own.
const DefaultTimeout = 5 * time.Second

// Function is what a function's package exports: a container, a child process, the all-in-one program and a test all run the same value.
type Function struct {
	Name        subjects.Function
	Description string // at most MaxDescription bytes
	Methods     []Method
	Events      Events                                               // the entries of conversations that it works on, if any
	Jobs        bool                                                 // it does work for later: calls of its own methods that Later, At and Every asked for
	Retry       Retry                                                // of entries and jobs that fail
	New         func(ctx context.Context, env Env) (Handlers, error) // called once an instance; ctx ends with the instance, after its drain
}

// Method is one call that a function answers.
type Method struct {
	Name        subjects.Method
	Description string
	Public      bool          // clients may call it; otherwise only edges, functions and operators
	Anonymous   bool          // clients may call it before they sign in
	Idempotent  bool          // callers may repeat it after a timeout
	Passive     bool          // does not count as activity, such as what edges ask again and again
	Timeout     time.Duration // 0 = DefaultTimeout
	Request     any           // a zero value of the request's type; a type that is Laned is worked on in order
	Response    any           // a zero value of the answer's type
}

// Laned is a request that must be worked on in order with the others of its lane, which is a conversation. Requests of different lanes,
// of the lane "" and of types that are not Laned run in parallel.
type Laned interface {
	Lane(from subjects.User) string
}

// Handlers holds what answers each method of a function.
type Handlers map[subjects.Method]Handler

// Handler answers one call. What it returns is sent as JSON; []byte and json.RawMessage are sent as they are, and nil as {}. A *wire.Error,
// wrapped or not, reaches the caller with its code and sentence; any other error is logged and reaches the caller as Internal alone.
type Handler func(ctx context.Context, call *Call) (any, error)

// Handle makes a Handler of a function that takes a decoded and validated request.
func Handle[In, Out any](f func(ctx context.Context, call *Call, in *In) (Out, error)) Handler {
	return func(ctx context.Context, call *Call) (any, error) {
		in, decoded := call.decoded.(*In)
		if !decoded {
			in = new(In)
			if err := call.Decode(in); err != nil {
				return nil, err
			}
		}
		return f(ctx, call, in)
	}
}

// Prompt begins a call of a method in the goroutine that calls come through, so that one which only sends something and waits for its answer occupies no goroutine
// meanwhile. It must not wait. It reports false where it has done nothing and the method's Handler must do the call. Otherwise it calls ready once, from any
// goroutine, with what is left to do and returns the answer; that runs where ready is called, or by a worker if it says that this may wait. Until then the call counts as
// one at work, and its lane as busy.
type Prompt func(ctx context.Context, call *Call, ready func(finish Handler, waits bool)) (begun bool)

// HandlePromptly makes a Prompt of a function that takes a decoded and validated request, of a type that is Laned.
func HandlePromptly[In any](f func(ctx context.Context, call *Call, in *In, ready func(finish Handler, waits bool)) bool) Prompt {
	return func(ctx context.Context, call *Call, ready func(finish Handler, waits bool)) bool {
		in, decoded := call.decoded.(*In)
		return decoded && f(ctx, call, in, ready)
	}
}

// Env is what an instance gets from the program that runs it. Run fills in what is nil.
type Env struct {
	NATS     *nats.Conn // open; it stays the program's and may be shared
	Log      *slog.Logger
	Caller   *Caller          // for calls to other functions
	Now      func() time.Time // the clock, for times that are stored or compared with stored ones
	Instance string           // the name of the instance, set by Run

	impair  func(reason string)        // nil outside of Run
	prompts map[subjects.Method]Prompt // nil outside of Run
}

// Promptly has calls of a method begun by a Prompt. It is for the constructor of a function, and does nothing outside of Run.
func (e Env) Promptly(m subjects.Method, p Prompt) {
	if e.prompts != nil {
		e.prompts[m] = p
	}
}

// Impaired tells callers and operators, in words, why the calls of this instance cannot succeed now, and with "" that they can again. The instance is called on: the reason may be over by then, and
// another may be no better. A reason that stands already is no news.
func (e Env) Impaired(reason string) {
	if e.impair != nil {
		e.impair(reason)
	}
}

// Options tunes an instance. The zero value is fit for use.
type Options struct {
	Version      string                // semantic version; "" = 0.0.0
	Concurrency  int                   // calls worked on at once; 0 = 64
	Waiting      int                   // calls that wait for a worker, beyond which they are refused; 0 = 1,024, a quarter of it a lane
	IdleTimeout  time.Duration         // how long an instance stays that nobody calls, passive methods aside; 0 = for ever
	DrainTimeout time.Duration         // how long a drain waits for calls at work before it cancels them; 0 = 20 s
	Unit         string                // what whoever started the instance calls it, such as a pod's name; it stands in every up
	Began        time.Time             // when the process started, for the statistics; zero = not known
	Violations   func() uint64         // how often the NATS server refused this program a subject, for the statistics; nil = not known
	Ready        func(instance string) // called once, when calls can arrive
	Stalled      func(reason string)   // told that entries or jobs cannot be had, and why, and "" when they can again; it must return at once; nil = nobody

	ping time.Duration // how often the server hears that a message is in hand; 0 = pingEvery
}

// The defaults of Options.
const (
	defaultConcurrency  = 64
	defaultWaiting      = 1024
	defaultDrainTimeout = 20 * time.Second
	defaultVersion      = "0.0.0"
)

func (o Options) withDefaults() Options {
	o.Version = cmp.Or(o.Version, defaultVersion)
	if o.Concurrency <= 0 {
		o.Concurrency = defaultConcurrency
	}
	if o.Waiting <= 0 {
		o.Waiting = defaultWaiting
	}
	if o.DrainTimeout <= 0 {
		o.DrainTimeout = defaultDrainTimeout
	}
	return o
}

// Validate returns an error that names the first thing that is wrong with the function's declaration.
func (f Function) Validate() error {
	if len(f.Methods) == 0 && !f.takesEntries() || f.New == nil {
		return fmt.Errorf("function %q has neither methods nor events, or no constructor", f.Name)
	}
	if _, _, err := subjects.ParseCall(string(f.Name) + "." + string(wire.MethodEntry)); err != nil {
		return fmt.Errorf("function %q: %w", f.Name, err)
	}
	if f.Description == "" || len(f.Description) > MaxDescription {
		return fmt.Errorf("function %s: the description must have 1 to %d bytes", f.Name, MaxDescription)
	}
	seen := map[subjects.Method]bool{}
	for _, m := range f.Methods {
		if _, _, err := subjects.ParseCall(string(f.Name) + "." + string(m.Name)); err != nil {
			return fmt.Errorf("function %q, method %q: %w", f.Name, m.Name, err)
		}
		if m.Name == wire.MethodEntry && f.takesEntries() {
			return fmt.Errorf("function %s: the name %s is taken by the handler of its entries", f.Name, m.Name)
		}
		if seen[m.Name] {
			return fmt.Errorf("function %s names its method %s twice", f.Name, m.Name)
		}
		if m.Anonymous && !m.Public {
			return fmt.Errorf("method %s.%s is anonymous and not public", f.Name, m.Name)
		}
		if m.Timeout < 0 {
			return fmt.Errorf("method %s.%s has a negative timeout", f.Name, m.Name)
		}
		seen[m.Name] = true
	}
	return f.validateWork()
}

// check compares the handlers that a constructor returned with what the function declares.
func (f Function) check(handlers Handlers) error {
	declared := f.handled()
	for _, m := range declared {
		if handlers[m.Name] == nil {
			return fmt.Errorf("function %s has no handler for its method %s", f.Name, m.Name)
		}
	}
	if len(handlers) > len(declared) {
		return fmt.Errorf("function %s has handlers for methods that it does not declare: %v", f.Name, slices.Sorted(maps.Keys(handlers)))
	}
	return nil
}

func (m Method) timeout() time.Duration { return cmp.Or(m.Timeout, DefaultTimeout) }

// lane returns a function that makes an empty request for decoding where the method's requests are Laned, and nil otherwise.
func (m Method) lane() func() Laned {
	if m.Request == nil {
		return nil
	}
	t := reflect.TypeOf(m.Request)
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if !reflect.PointerTo(t).Implements(reflect.TypeFor[Laned]()) {
		return nil
	}
	return func() Laned { return reflect.New(t).Interface().(Laned) }
}

// instanceMethods returns what callers must know of the methods.
func (f Function) instanceMethods() []wire.InstanceMethod {
	methods := make([]wire.InstanceMethod, len(f.Methods))
	for i, m := range f.Methods {
		methods[i] = wire.InstanceMethod{
			Name: m.Name, Public: m.Public, Anonymous: m.Anonymous, Idempotent: m.Idempotent, TimeoutMS: m.timeout().Milliseconds(),
		}
	}
	return methods
}
