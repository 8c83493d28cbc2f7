package manifest

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/confab-im/confab/subjects"
)

// Supervised is what a supervisor must know of a function to run instances of it as processes of its machine.
type Supervised struct {
	Function    subjects.Function
	Scale       Scale
	Concurrency int                 // calls that one instance works on at once
	Drain       time.Duration       // how long an instance that was asked to end may finish what it has: the longest timeout of a method, 5 s at least
	Memory      int64               // bytes that an instance is meant to stay within
	CPU         int                 // thousandths of a processor that an instance is meant to need
	Settings    []string            // the variables of the function's own settings
	Works       bool                // entries or jobs wake it, beside calls
	Calls       []subjects.Function // the functions that it calls, in alphabetical order; they must outlive it
}

// leastDrain is what a function gets to finish an entry or a job, which have no method of their own.
const leastDrain = 5 * time.Second

// Supervised returns what a supervisor must know of the function. The manifest must be valid.
func (m Manifest) Supervised() Supervised {
	s := Supervised{
		Function: m.Function, Scale: m.Scale, Concurrency: m.Concurrency, Settings: m.Environment,
		Memory: m.Resources.bytes(), CPU: m.Resources.thousandths(), Works: m.Works(), Drain: leastDrain,
	}
	for _, method := range m.Methods {
		s.Drain = max(s.Drain, method.Timeout)
	}
	for _, call := range m.NATS.Calls {
		if f, _, err := subjects.ParseCall(call); err == nil {
			s.Calls = append(s.Calls, f)
		}
	}
	slices.Sort(s.Calls)
	s.Calls = slices.Compact(s.Calls)
	return s
}

// bytes returns the memory, 0 where it is not of the form that Validate asks for.
func (r Resources) bytes() int64 {
	for unit, size := range map[string]int64{"Mi": 1 << 20, "Gi": 1 << 30} {
		if text, ok := strings.CutSuffix(r.Memory, unit); ok {
			n, _ := strconv.ParseInt(text, 10, 32)
			return n * size
		}
	}
	return 0
}

// thousandths returns the share of processors, 0 where it is not of the form that Validate asks for.
func (r Resources) thousandths() int {
	text, small := strings.CutSuffix(r.CPU, "m")
	n, _ := strconv.ParseInt(text, 10, 32)
	if small {
		return int(n)
	}
	return int(n) * 1000
}
