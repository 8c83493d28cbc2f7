// Command edge is one edge: it terminates the WebSockets of clients and speaks NATS.
package main

import (
	"github.com/confab-im/confab/deploy/edges"
	"github.com/confab-im/confab/deploy/process"
)

func main() { process.Main(edges.Main) }
