// Package auth is the function that knows who somebody is: it registers accounts, signs them in with a password, gives out short
// tokens and long refresh tokens, verifies both its own tokens and those of outside issuers, and revokes sessions.
//
// It leaves to others what an identity may do: roles belong to the function conversations, limits on calls and the closing of sockets to
// the edge, which learns of revocations from this function's answers and events.
package auth
