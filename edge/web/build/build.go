// Package build makes the web client's files from its TypeScript: bundled, minified and named by their content.
// It needs no Node.js. It does not check types: edge/web/README.md says how to do that.
package build

import (
	"bytes"
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/evanw/esbuild/pkg/api"
)

// hashBytes of a file's digest stand in its name: 40 bits, eight letters, enough to tell versions of one file apart.
const hashBytes = 5

// Build returns the files of the page by their names, made from the sources under root (the folder edge/web). The same
// sources give the same bytes on any machine. It reads and writes no other file; its error names the source and line.
func Build(root string) (map[string][]byte, error) {
	files := map[string][]byte{}
	page, err := os.ReadFile(filepath.Join(root, "app", "index.html"))
	if err != nil {
		return nil, fmt.Errorf("read the page: %w", err)
	}
	for _, source := range []struct{ entry, name string }{
		{"main.ts", "main.js"},
		{"style.css", "style.css"},
	} {
		content, err := bundle(root, source.entry)
		if err != nil {
			return nil, fmt.Errorf("bundle %s: %w", source.entry, err)
		}
		page, err = place(files, page, source.name, content)
		if err != nil {
			return nil, err
		}
	}
	icon, err := os.ReadFile(filepath.Join(root, "app", "icon.svg"))
	if err != nil {
		return nil, fmt.Errorf("read the icon: %w", err)
	}
	page, err = place(files, page, "icon.svg", icon)
	if err != nil {
		return nil, err
	}
	files["index.html"] = page
	return files, nil
}

// bundle returns one entry point of app with all it imports, as one minified file.
func bundle(root, entry string) ([]byte, error) {
	absolute, err := filepath.Abs(root)
	if err != nil {
		return nil, err
	}
	result := api.Build(api.BuildOptions{
		AbsWorkingDir:     absolute,
		EntryPoints:       []string{"app/" + entry},
		Outdir:            "out",
		Bundle:            true,
		Format:            api.FormatIIFE,
		Platform:          api.PlatformBrowser,
		Target:            api.ES2020,
		MinifyWhitespace:  true,
		MinifyIdentifiers: true,
		MinifySyntax:      true,
		Charset:           api.CharsetUTF8,
		LegalComments:     api.LegalCommentsNone,
		Sourcemap:         api.SourceMapNone,
		// Settings that the editor needs must not change what is built.
		TsconfigRaw: `{"compilerOptions":{"strict":true,"useDefineForClassFields":false}}`,
		LogLevel:    api.LogLevelSilent,
		Write:       false,
	})
	if len(result.Errors) > 0 {
		texts := api.FormatMessages(result.Errors, api.FormatMessagesOptions{})
		return nil, fmt.Errorf("%s", strings.TrimSpace(strings.Join(texts, "")))
	}
	if len(result.OutputFiles) != 1 {
		return nil, fmt.Errorf("%d files came out, want 1", len(result.OutputFiles))
	}
	return result.OutputFiles[0].Contents, nil
}

// place puts content into files under a name that holds its hash, and that name into the page.
func place(files map[string][]byte, page []byte, name string, content []byte) ([]byte, error) {
	sum := sha256.Sum256(content)
	hash := strings.ToLower(base32.StdEncoding.EncodeToString(sum[:hashBytes]))
	ext := filepath.Ext(name)
	hashed := strings.TrimSuffix(name, ext) + "-" + hash + ext
	quoted := []byte(`"` + name + `"`)
	if bytes.Count(page, quoted) != 1 {
		return nil, fmt.Errorf("index.html names %s %d times, want once", name, bytes.Count(page, quoted))
	}
	files[hashed] = content
	return bytes.Replace(page, quoted, []byte(`"`+hashed+`"`), 1), nil
}
