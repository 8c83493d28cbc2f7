package functions

import (
	"testing"

	"pgregory.net/rapid"
)

// Whatever is released, answered, lost and written off in whatever order: no place is counted twice, and when nothing is unanswered all are free.
func TestAWindowIsEmptyWhenNothingIsUnanswered(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type call struct {
			age int
			at  string
		}
		var w window
		state := functionState{waking: 1, capacity: 0}
		up := map[string]int{}
		var open []call
		names := []string{"a", "b", "c"}
		for range rapid.IntRange(1, 80).Draw(t, "steps") {
			name := rapid.SampledFrom(names).Draw(t, "name")
			switch rapid.IntRange(0, 3).Draw(t, "what") {
			case 0: // an instance comes, the first of a waking perhaps
				if up[name] == 0 {
					if len(up) == 0 {
						state.waking++
					}
					up[name] = rapid.IntRange(1, 4).Draw(t, "capacity")
					state.capacity += up[name]
				}
			case 1: // or leaves
				state.capacity -= up[name]
				state.gone += up[name]
				delete(up, name)
			case 2:
				if len(up) == 0 {
					break
				}
				w.look(&state)
				if w.used() < state.capacity {
					open = append(open, call{w.take(), name}) // also to one that is not there
				}
			case 3:
				if len(open) == 0 {
					break
				}
				i := rapid.IntRange(0, len(open)-1).Draw(t, "call")
				by := open[i].at
				if rapid.Bool().Draw(t, "in vain") {
					by = ""
				}
				w.settle(open[i].age, by, func(name string) bool { return up[name] > 0 })
				open = append(open[:i], open[i+1:]...)
			}
			if used := w.used(); used < 0 || used > len(open) || w.lost < 0 || w.young < 0 || w.old+w.young != len(open) {
				t.Fatalf("%d are unanswered, and the window is %+v", len(open), w)
			}
		}
		for _, c := range open {
			w.settle(c.age, c.at, func(string) bool { return true })
		}
		if w.used() != 0 || w.lost != 0 {
			t.Fatalf("nothing is unanswered, and the window is %+v", w)
		}
	})
}

func TestAWindowWritesOffTheShareOfThoseThatLeft(t *testing.T) {
	var w window
	two := functionState{waking: 1, capacity: 8}
	one := functionState{waking: 1, capacity: 4, gone: 4}
	again := functionState{waking: 2, capacity: 4, gone: 8}
	var ages []int
	w.look(&two)
	for range 8 {
		ages = append(ages, w.take())
	}
	w.look(&one)
	if w.used() != 4 {
		t.Errorf("of 8 calls to two instances %d are with the one that is left", w.used())
	}
	w.settle(ages[0], "b", func(string) bool { return true })
	if w.used() != 3 {
		t.Errorf("%d after an answer of the one that is left", w.used())
	}
	w.settle(ages[1], "a", func(string) bool { return false }) // it drained
	w.settle(ages[2], "", func(string) bool { return true })
	if w.used() != 3 {
		t.Errorf("%d after what was written off is over", w.used())
	}
	w.look(&again)
	if w.used() != 0 {
		t.Errorf("%d after all instances had gone", w.used())
	}
}
