package send

import (
	"container/list"
	"sync"
)

// cache is a map of at most size entries that forgets the least recently used one. It is safe for concurrent use.
type cache[K comparable, V any] struct {
	mu      sync.Mutex
	size    int
	order   *list.List // of item[K, V], the newest in front
	entries map[K]*list.Element
}

type item[K comparable, V any] struct {
	key   K
	value V
}

func newCache[K comparable, V any](size int) *cache[K, V] {
	return &cache[K, V]{size: size, order: list.New(), entries: map[K]*list.Element{}}
}

func (c *cache[K, V]) get(key K) (value V, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	element, ok := c.entries[key]
	if !ok {
		return value, false
	}
	c.order.MoveToFront(element)
	return element.Value.(item[K, V]).value, true
}

func (c *cache[K, V]) put(key K, value V) { c.putUnless(key, value, func(V) bool { return false }) }

// putUnless is put, but where better says of the value that is there that it is, that one stays.
func (c *cache[K, V]) putUnless(key K, value V, better func(V) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if element, ok := c.entries[key]; ok {
		if better(element.Value.(item[K, V]).value) {
			value = element.Value.(item[K, V]).value
		}
		element.Value = item[K, V]{key, value}
		c.order.MoveToFront(element)
		return
	}
	c.entries[key] = c.order.PushFront(item[K, V]{key, value})
	if c.order.Len() > c.size {
		oldest := c.order.Remove(c.order.Back()).(item[K, V])
		delete(c.entries, oldest.key)
	}
}

// change replaces the value of a key that is there, without using it.
func (c *cache[K, V]) change(key K, next func(V) V) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if element, ok := c.entries[key]; ok {
		element.Value = item[K, V]{key, next(element.Value.(item[K, V]).value)}
	}
}

func (c *cache[K, V]) drop(key K) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if element, ok := c.entries[key]; ok {
		c.order.Remove(element)
		delete(c.entries, key)
	}
}
