// Package edge keeps the connections of chat clients: WebSocket and HTTP, sessions, limits, and the fan-out of what happens in
// conversations to the sockets of their members. It knows connections, not chat: a client's call becomes a request to a function, and
// the answer goes back as it came, so a new public function needs no change here.
//
// It leaves every decision about chat to the functions, what is remembered to the store (which it never touches), and the listener for
// operators to package ops. PROTOCOL.md in package subjects is the normative text of what clients see.
//
// Locks are taken in this order, and never the other way round: the table of conversations, one conversation, the table of users, one
// user, one socket. Presence has a lock of its own that is taken before those of sockets and under none of the others.
package edge
