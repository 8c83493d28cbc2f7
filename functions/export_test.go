package functions

import "time"

// WithPing returns options with which an instance says more often that messages are in hand.
func (o Options) WithPing(every time.Duration) Options { o.ping = every; return o }
