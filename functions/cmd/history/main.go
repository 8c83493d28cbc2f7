// Command history runs one instance of the function history, which decides what a user may read.
package main

import (
	"github.com/confab-im/confab/deploy/process"
	"github.com/confab-im/confab/functions/history"
)

func main() { process.Main(process.Function("history", history.Function)) }
