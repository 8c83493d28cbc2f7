// Command receipts runs one instance of the function receipts, which keeps how far everybody has read.
package main

import (
	"github.com/confab-im/confab/deploy/process"
	"github.com/confab-im/confab/functions/receipts"
)

func main() { process.Main(process.Function("receipts", receipts.Function)) }
