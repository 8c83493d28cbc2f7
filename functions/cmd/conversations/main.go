// Command conversations runs one instance of the function conversations, which decides which conversations there are and who is in them.
package main

import (
	"github.com/confab-im/confab/deploy/process"
	"github.com/confab-im/confab/functions/conversations"
)

func main() { process.Main(process.Function("conversations", conversations.Function)) }
