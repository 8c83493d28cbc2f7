package manifest

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/confab-im/confab/deploy/process"
	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/subjects"
)

// Compare returns an error that says where the manifest and the code disagree: name, methods, events, jobs, and the variables of config, a pointer to the zero value of the
// function's settings. A test of each function calls it.
func (m Manifest) Compare(f functions.Function, config any) error {
	if f.Name != m.Function {
		return fmt.Errorf("the code is function %q and the manifest that of %q", f.Name, m.Function)
	}
	methods := map[subjects.Method]Method{}
	for _, method := range f.Methods {
		methods[method.Name] = Method{
			Public: method.Public, Anonymous: method.Anonymous, Idempotent: method.Idempotent, Passive: method.Passive,
			Timeout: cmp.Or(method.Timeout, functions.DefaultTimeout),
		}
	}
	if !slices.Equal(slices.Sorted(slices.Values(f.Events.Kinds)), slices.Sorted(slices.Values(m.Events))) || f.Jobs != m.Jobs {
		return fmt.Errorf("the code has the events %q and jobs %v, and the manifest %q and %v", f.Events.Kinds, f.Jobs, m.Events, m.Jobs)
	}
	if !maps.Equal(methods, m.Methods) {
		return fmt.Errorf("the code has the methods\n%v\nand the manifest\n%v", methods, m.Methods)
	}
	environment, err := process.Environment(config)
	if err != nil {
		return err
	}
	if !slices.Equal(slices.Sorted(slices.Values(environment)), slices.Sorted(slices.Values(m.Environment))) {
		return fmt.Errorf("the code reads\n%q\nand the manifest names\n%q", environment, m.Environment)
	}
	return nil
}
