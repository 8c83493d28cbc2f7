// Package client is the Go SDK of confab: one signed-in device that stays connected.
//
// A Client reconnects by itself, renews its token ahead of time, and repeats what it could not be sure of: a Post returns when the message
// is stored, and is sent again under the same client id until the server has said yes or no, across reconnects and, with a file outbox,
// across restarts of the process. A Conversation delivers the entries of one conversation in the order of their seq, each once, and
// fetches what did not arrive live.
//
// The package decides nothing about chat: it speaks the protocol of subjects/PROTOCOL.md, and its bodies are those of package wire.
package client
