// Package web holds the web client and serves it: a chat page in plain TypeScript (folder app) on the TypeScript SDK
// (folder sdk). It knows files and headers only; sockets and calls are the edge's.
package web

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"regexp"
	"strings"
	"time"
)

//go:generate go run ./cmd/build

//go:embed dist
var dist embed.FS

// policy lets the page load its own files and talk to its own origin, and nothing else. 'self' as connect-src includes
// the WebSocket of the same host and port (CSP 3, section 6.7.2.8).
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// hashed matches the names that package build makes from a file's content: what they name never changes.
var hashed = regexp.MustCompile(`-[a-z2-7]{8}\.[a-z0-9]+$`)

// types holds the content type of each kind of file that the build makes; the machine's own table is not asked, because
// it differs from machine to machine.
var types = map[string]string{
	".html": "text/html; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".svg":  "image/svg+xml",
}

// file is one answer, made once.
type file struct {
	content []byte
	mime    string
	etag    string
	cache   string
}

// Files returns the built page, rooted where index.html is.
func Files() fs.FS {
	root, err := fs.Sub(dist, "dist")
	if err != nil {
		panic(err) // The name is a constant and valid.
	}
	return root
}

// Handler returns a handler that serves the page at / and its files beside it, to GET and HEAD; all else is 404 or 405.
// Every answer carries the content security policy; hashed files may be kept for a year, the page itself is asked for
// again each time.
func Handler() http.Handler {
	files, err := load(Files())
	if err != nil {
		panic(err) // What is embedded can be read.
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header := w.Header()
		header.Set("Content-Security-Policy", policy)
		header.Set("X-Content-Type-Options", "nosniff")
		header.Set("Referrer-Policy", "no-referrer")
		header.Set("Cross-Origin-Opener-Policy", "same-origin")
		header.Set("Cross-Origin-Resource-Policy", "same-origin")
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			header.Set("Allow", "GET, HEAD")
			http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
			return
		}
		name := strings.TrimPrefix(r.URL.Path, "/")
		if name == "" {
			name = "index.html"
		}
		f, ok := files[name]
		if !ok {
			http.Error(w, "not found", http.StatusNotFound)
			return
		}
		header.Set("Content-Type", f.mime)
		header.Set("Cache-Control", f.cache)
		header.Set("ETag", f.etag)
		http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(f.content))
	})
}

// load reads every file of root and prepares its headers.
func load(root fs.FS) (map[string]file, error) {
	files := map[string]file{}
	err := fs.WalkDir(root, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := fs.ReadFile(root, name)
		if err != nil {
			return fmt.Errorf("read %s: %w", name, err)
		}
		mime, ok := types[path.Ext(name)]
		if !ok {
			return fmt.Errorf("no content type for %s", name)
		}
		sum := sha256.Sum256(content)
		cache := "no-cache"
		if hashed.MatchString(name) {
			cache = "public, max-age=31536000, immutable"
		}
		files[name] = file{content: content, mime: mime, etag: `"` + hex.EncodeToString(sum[:12]) + `"`, cache: cache}
		return nil
	})
	return files, err
}
