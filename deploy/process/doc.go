// Package process is the scaffold of every program of confab: configuration from flags, environment and file, logging, the connection to
// NATS, signals and exit codes. It alone reads the environment and the command line; packages below take a Config struct.
//
// It knows the function runtime, but no function, no edge and no store, so that the program of one function links only what that function needs.
package process
