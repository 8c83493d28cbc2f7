// Package standalone composes confab on one machine in one process: an embedded NATS server, one edge, every function and the web
// client, out of the same packages that run as programs of their own elsewhere.
//
// It decides nothing about chat. What it adds is what a single machine needs: a data directory with one owner, ports with remedies when they are taken, and a
// banner that says what to open.
package standalone
