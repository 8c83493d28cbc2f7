package kubernetes

import (
	"context"
	"testing"
	"time"
)

// TestNothingIsLostWhenSomethingIsKilled kills what takes part in waking a function, once before calls come and once while they wait.
func TestNothingIsLostWhenSomethingIsKilled(t *testing.T) {
	i := chat(t)
	none := func(context.Context) error { return nil } // the node starts it again by itself
	for _, c := range []struct {
		name  string
		kill  func() error
		start func(ctx context.Context) error
	}{
		{"all scalers", func() error { return cluster.Kill(namespace, part("scaler")) }, none},
		{"KEDA's operator", cluster.KillOperator, cluster.StartOperator},
		{"three instances that start", func() error {
			return cluster.KillNext(namespace, part("work"), 0, 2*time.Millisecond, 4*time.Millisecond)
		}, none},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, before := range []int{0, 20} { // calls before the kill
				calls := newCallers(t, i)
				reaches(t, "work", 0)
				calls.call(before, 0)
				if err := c.kill(); err != nil {
					t.Fatal(err)
				}
				calls.call(20, 0)
				if err := c.start(t.Context()); err != nil {
					t.Fatal(err)
				}
				calls.settle()
				t.Logf("with %d calls before and 20 after, the longest took %s", before, calls.longest())
			}
		})
	}
}
