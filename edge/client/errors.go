package client

import (
	"errors"
	"fmt"

	"github.com/confab-im/confab/subjects/wire"
)

// Sentinels of what the client itself has to say. What the server says is a *wire.Error.
var (
	// ErrClosed is returned after Close, and wraps the reason where the server ended the session for good.
	ErrClosed = errors.New("client is closed")
	// ErrNotConnected is returned by calls that do not wait for a connection.
	ErrNotConnected = errors.New("client is not connected")
	// ErrInterrupted is returned when the connection ended before the answer came: the call may have taken effect.
	ErrInterrupted = errors.New("connection ended before the answer")
	// ErrOutboxFull is returned when MaxDrafts messages wait to be sent.
	ErrOutboxFull = errors.New("outbox is full")
	// ErrInsecure is returned for an address that would send passwords and tokens over a network in the clear.
	ErrInsecure = errors.New("plain ws and http are for loopback addresses only")
	// ErrViewClosed is returned by Next after the view's Close.
	ErrViewClosed = errors.New("view is closed")
)

// CloseError is how the server ended a connection.
type CloseError struct {
	Code   wire.CloseCode
	Reason string
}

// Error returns the code and the reason.
func (e *CloseError) Error() string { return fmt.Sprintf("server closed with %d %s", e.Code, e.Reason) }
