// Command build writes the web client's files to dist. It runs in edge/web, by go generate.
package main

import (
	"log"
	"os"
	"path/filepath"

	"github.com/confab-im/confab/edge/web/build"
)

func main() {
	files, err := build.Build(".")
	if err != nil {
		log.Fatal(err)
	}
	if err := os.RemoveAll("dist"); err != nil {
		log.Fatal(err)
	}
	if err := os.MkdirAll("dist", 0o755); err != nil {
		log.Fatal(err)
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join("dist", name), content, 0o644); err != nil {
			log.Fatal(err)
		}
	}
}
