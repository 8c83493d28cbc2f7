// Package receipts is the function that keeps how far members have read and received their conversations: mark moves the caller's marks
// forward, who tells who has come as far as an entry.
//
// A post marks its conversation as read up to itself for its author, and nothing is written for that: a user's read mark is the larger one of
// the stored cursor and the newest post that the tail knows of. Heads and unread counts are the business of function history.
package receipts
