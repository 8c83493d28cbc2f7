package send

import (
	"testing"

	"pgregory.net/rapid"
)

func TestCacheForgetsTheLeastRecentlyUsed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const size = 3
		c := newCache[int, int](size)
		var model []int // keys, the newest last; the value of a key is its negative
		touch := func(key int) {
			for i, k := range model {
				if k == key {
					model = append(model[:i], model[i+1:]...)
					break
				}
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				key := rapid.IntRange(0, 5).Draw(t, "key")
				c.put(key, -key)
				touch(key)
				model = append(model, key)
				model = model[max(0, len(model)-size):]
			},
			"drop": func(t *rapid.T) {
				key := rapid.IntRange(0, 5).Draw(t, "key")
				c.drop(key)
				touch(key)
			},
			"get": func(t *rapid.T) {
				key := rapid.IntRange(0, 5).Draw(t, "key")
				want := false
				for _, k := range model {
					want = want || k == key
				}
				value, ok := c.get(key)
				if ok != want || (ok && value != -key) {
					t.Fatalf("get(%d) = %d, %v; want %v of %v", key, value, ok, want, model)
				}
				if want {
					touch(key)
					model = append(model, key)
				}
			},
		})
	})
}
