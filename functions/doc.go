// Package functions runs functions: small services that decide one part of a chat each, such as send or auth, and that answer calls on
// NATS. Run turns a Function into one instance: a micro service with a bounded pool of workers, deadlines, error codes, traces, logs,
// and a drain that loses nothing. Caller is the other side: it knows which instances are up, sends them calls and waits for answers.
//
// It leaves what is remembered to package jetstream, which it does not import: a function opens its own store. It leaves flags, the
// environment and signals to package process, and what a function decides to the folders below this one.
package functions
