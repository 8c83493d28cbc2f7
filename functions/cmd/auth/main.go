// Command auth runs one instance of the function auth, which decides who somebody is: accounts, tokens, sessions.
package main

import (
	"github.com/confab-im/confab/deploy/process"
	"github.com/confab-im/confab/functions/auth"
)

func main() { process.Main(process.Function("auth", auth.Function)) }
