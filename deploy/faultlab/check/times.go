package check

import (
	"slices"
	"time"
)

// Times is how long something took, over all cases.
type Times struct {
	Count int           `json:"count"`
	P50   time.Duration `json:"p50,omitempty"`
	P99   time.Duration `json:"p99,omitempty"`
	Max   time.Duration `json:"max,omitempty"`
}

func timesOf(list []time.Duration) Times {
	if len(list) == 0 {
		return Times{}
	}
	list = slices.Sorted(slices.Values(list))
	at := func(percent int) time.Duration { return list[(len(list)-1)*percent/100] }
	return Times{Count: len(list), P50: at(50), P99: at(99), Max: list[len(list)-1]}
}
