// Package wire holds what confab says: the bodies of calls, answers, events and entries, the frames that carry them to clients,
// and the closed set of error and close codes. Every body is compact JSON that a person can read.
//
// Outside input is decoded with Decode and ParseFrame only, which refuse what lenient decoders let through. Package subjects names the
// subjects that the bodies travel on; what they mean for a conversation is decided by the functions. PROTOCOL.md is the normative text.
package wire
