package functions

import "errors"

// ErrDisconnected is returned by Run when the NATS connection was closed for good while the instance ran: nobody can reach it any more.
var ErrDisconnected = errors.New("the NATS connection was closed")

// ErrDrainIncomplete is wrapped by what Run returns when calls were still at work at the end of the drain's time and had to be cancelled.
var ErrDrainIncomplete = errors.New("calls were cancelled at the end of the drain")
