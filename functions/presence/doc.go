// Package presence is the function that knows who is there: set stores what a user wants others to see, get tells the presence of users,
// and records gives edges what they need to follow those whom their clients watch.
//
// Edges write the leases and device records themselves and send presence events to their clients; what follows from the
// records is said by wire.UserRecords, which edges apply by their own clock.
package presence
