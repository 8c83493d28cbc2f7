// Command presence runs one instance of the function presence, which knows who is there.
package main

import (
	"github.com/confab-im/confab/deploy/process"
	"github.com/confab-im/confab/functions/presence"
)

func main() { process.Main(process.Function("presence", presence.Function)) }
