// Command scaler tells KEDA on Kubernetes how many instances of each function there should be.
package main

import (
	"github.com/confab-im/confab/deploy/process"
	"github.com/confab-im/confab/deploy/scaler"
)

func main() { process.Main(scaler.Main) }
