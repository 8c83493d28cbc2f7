package jetstream

import (
	"container/list"
	"sync"
)

// lru is a map whose values together cost no more than a bound: it forgets those least recently used. It is safe for concurrent use.
type lru[K comparable, V any] struct {
	mu      sync.Mutex
	bound   int
	cost    int
	order   *list.List // of lruItem[K, V], the newest in front
	entries map[K]*list.Element
}

type lruItem[K comparable, V any] struct {
	key   K
	value V
	cost  int
}

func newLRU[K comparable, V any](bound int) *lru[K, V] {
	return &lru[K, V]{bound: bound, order: list.New(), entries: map[K]*list.Element{}}
}

func (l *lru[K, V]) get(key K) (value V, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	element, ok := l.entries[key]
	if !ok {
		return value, false
	}
	l.order.MoveToFront(element)
	return element.Value.(lruItem[K, V]).value, true
}

func (l *lru[K, V]) put(key K, value V, cost int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.remove(key)
	l.cost += cost
	l.entries[key] = l.order.PushFront(lruItem[K, V]{key, value, cost})
	for l.cost > l.bound && l.order.Len() > 0 {
		l.remove(l.order.Back().Value.(lruItem[K, V]).key)
	}
}

// drop forgets a value.
func (l *lru[K, V]) drop(key K) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.remove(key)
}

func (l *lru[K, V]) remove(key K) {
	if element, ok := l.entries[key]; ok {
		l.cost -= l.order.Remove(element).(lruItem[K, V]).cost
		delete(l.entries, key)
	}
}
