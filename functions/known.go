package functions

import (
	"cmp"
	"slices"
	"time"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// Known is what a Caller knows of a function.
type Known struct {
	Function   subjects.Function
	Instances  int
	Registered *wire.Registered // nil = not registered, only heard of; must not be changed
	Broken     bool             // it does not start at the moment
	Reason     string           // of Broken, for operators
	Methods    []wire.InstanceMethod
}

// Functions returns what is known of each function that is registered, has said what it answers, or does not start, in ascending order of name.
func (c *Caller) Functions() []Known {
	now := time.Now()
	var all []Known
	for name, state := range c.table.now().functions {
		k := Known{Function: name, Instances: state.instances, Registered: state.registered}
		if state.broken != nil && now.Before(state.broken.until) {
			k.Broken, k.Reason = true, state.broken.reason
		}
		for _, m := range state.methods {
			k.Methods = append(k.Methods, m.InstanceMethod)
		}
		if k.Registered == nil && len(k.Methods) == 0 && !k.Broken {
			continue
		}
		slices.SortFunc(k.Methods, func(a, b wire.InstanceMethod) int { return cmp.Compare(a.Name, b.Name) })
		all = append(all, k)
	}
	slices.SortFunc(all, func(a, b Known) int { return cmp.Compare(a.Function, b.Function) })
	return all
}

// Knows reports whether it is certain which methods a function has: instances are up, or it is registered.
func (c *Caller) Knows(f subjects.Function) bool {
	state := c.table.now().functions[f]
	return state != nil && (state.instances > 0 || state.registered != nil)
}
