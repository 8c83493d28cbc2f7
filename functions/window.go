package functions

// window counts the calls that a gate has released and that are not answered, so that there are never more of them than the instances work on.
// Those that an instance took with it to its grave give their places back when the instance leaves the table, and not at the end of their time.
//
// Nobody knows which instance the server gave a call to, until it answers. So when an instance leaves, that part of the unanswered calls is written off
// that it was of the instances' capacity, and whoever answers after all shows whether that was right: too many written off let a few calls too many wait
// at the instances that are left, too few keep places empty until the calls' time is over.
type window struct {
	waking uint64 // the waking that is spoken of
	gone   int    // the capacity of all instances that left in it
	age    int    // counts the times at which something was written off
	young  int    // released since then and not answered
	old    int    // released before
	lost   int    // of the old ones, written off
}

// look takes in what became of the instances.
func (w *window) look(state *functionState) {
	left := state.gone - w.gone
	if w.waking == state.waking && left == 0 {
		return
	}
	share := w.old + w.young // all of them: there was no instance in between
	if w.waking == state.waking {
		before := state.capacity + left
		share = w.lost + ((share-w.lost)*left+before-1)/before
	}
	w.waking, w.gone = state.waking, state.gone
	w.age++
	w.old, w.young = w.old+w.young, 0
	w.lost = min(share, w.old)
}

// used returns how many places are taken.
func (w *window) used() int { return w.young + w.old - w.lost }

// take notes a call that is released, and returns what settle wants back.
func (w *window) take() (age int) {
	w.young++
	return w.age
}

// settle notes that a call is over. By is the instance that answered, "" where none did; alive reports whether an instance is up.
func (w *window) settle(age int, by string, alive func(string) bool) {
	if age == w.age {
		w.young--
		return
	}
	w.old--
	if w.lost > 0 && (by == "" || !alive(by)) {
		w.lost-- // it had given its place back
	}
	w.lost = min(w.lost, w.old)
}
