// Command confab runs everything on one machine, and holds the tools of those who operate it.
package main

import (
	"github.com/confab-im/confab/deploy/cli"
	"github.com/confab-im/confab/deploy/process"
)

func main() { process.Main(cli.Main) }
