// Package subjects holds every name that confab says on NATS: typed ids, subjects and the patterns that match them, streams,
// buckets and their keys, queue groups and headers. Whatever a user chose passes through a parser of this package before it
// becomes part of a name, so no subject can be built from an id that was not checked.
//
// It leaves the bodies to package wire, the shape of streams and buckets to package jetstream, and opens no connection.
package subjects
