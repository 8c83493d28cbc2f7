package receipts

import _ "embed"

// Manifest is the function's function.yaml, which package deploy/manifest reads.
//
//go:embed function.yaml
var Manifest []byte
