package send

import "sync"

// cache is a map of at most size entries that forgets the least recently used one. It is safe for concurrent use. Entries that are replaced cost no memory anew.
type cache[K comparable, V any] struct {
	mu      sync.Mutex
	size    int
	entries map[K]*item[K, V]
	ends    item[K, V] // the newest entry is its next, the oldest its last
}

// item is an entry: last was used after it, and next before it.
type item[K comparable, V any] struct {
	key        K
	value      V
	last, next *item[K, V]
}

func newCache[K comparable, V any](size int) *cache[K, V] {
	c := &cache[K, V]{size: size, entries: map[K]*item[K, V]{}}
	c.ends.last, c.ends.next = &c.ends, &c.ends
	return c
}

func (c *cache[K, V]) get(key K) (value V, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i, ok := c.entries[key]
	if !ok {
		return value, false
	}
	c.use(i)
	return i.value, true
}

func (c *cache[K, V]) put(key K, value V) { c.putUnless(key, value, func(V) bool { return false }) }

// putUnless is put, but where better says of the value that is there that it is, that one stays.
func (c *cache[K, V]) putUnless(key K, value V, better func(V) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i, ok := c.entries[key]
	if ok {
		if !better(i.value) {
			i.value = value
		}
		c.use(i)
		return
	}
	i = &item[K, V]{key: key, value: value}
	c.entries[key] = i
	c.toFront(i)
	if len(c.entries) > c.size {
		c.remove(c.ends.last)
	}
}

// change replaces the value of a key that is there, without using it.
func (c *cache[K, V]) change(key K, next func(V) V) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if i, ok := c.entries[key]; ok {
		i.value = next(i.value)
	}
}

func (c *cache[K, V]) drop(key K) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if i, ok := c.entries[key]; ok {
		c.remove(i)
	}
}

// use makes an entry the newest. mu is held, here and below.
func (c *cache[K, V]) use(i *item[K, V]) {
	if c.ends.next != i {
		c.unlink(i)
		c.toFront(i)
	}
}

func (c *cache[K, V]) toFront(i *item[K, V]) {
	i.last, i.next = &c.ends, c.ends.next
	i.last.next, i.next.last = i, i
}

func (c *cache[K, V]) unlink(i *item[K, V]) { i.last.next, i.next.last = i.next, i.last }

func (c *cache[K, V]) remove(i *item[K, V]) {
	c.unlink(i)
	delete(c.entries, i.key)
}
