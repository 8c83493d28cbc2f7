// Command send runs one instance of the function send, which decides what enters the log of a conversation.
package main

import (
	"github.com/confab-im/confab/deploy/process"
	"github.com/confab-im/confab/functions/send"
)

func main() { process.Main(process.Function("send", send.Function)) }
