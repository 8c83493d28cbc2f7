// Command work runs one instance of the function work, with which the tests see what runs where and how often.
package main

import (
	"github.com/confab-im/confab/deploy/e2e/kubernetes/work"
	"github.com/confab-im/confab/deploy/process"
)

func main() { process.Main(process.Function("work", work.Function)) }
