// Package jetstream is what confab remembers: one table of streams and buckets, the log of a conversation, and one small store a file
// for everything else. It is the only package that imports the JetStream client library, and the only one that reads or writes stored bytes.
//
// Declare makes the streams and buckets, which is the deployer's act; Open gives a Store to a program. Reads go to any replica unless their
// comment says leader, which is whoever answers where one server stands alone; writes that must not race are create-only or compare-and-set, never last-writer-wins. Lists are read with one raw
// request for the last messages of many subjects (ADR-31 of NATS), never with a consumer or a watcher of one user.
//
// It decides nothing about who may do what: that is left to the functions.
package jetstream
