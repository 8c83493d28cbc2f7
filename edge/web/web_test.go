package web_test

import (
	"bytes"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"path"
	"strings"
	"testing"

	"github.com/confab-im/confab/edge/web"
	"github.com/confab-im/confab/edge/web/build"
)

func get(t *testing.T, method, target string, header http.Header) *http.Response {
	t.Helper()
	request := httptest.NewRequest(method, target, nil)
	for name, values := range header {
		request.Header[name] = values
	}
	recorder := httptest.NewRecorder()
	web.Handler().ServeHTTP(recorder, request)
	return recorder.Result()
}

func TestHandlerServesEachFileWithItsTypeAndCacheRule(t *testing.T) {
	types := map[string]string{".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8",
		".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}
	entries, err := fs.ReadDir(web.Files(), ".")
	if err != nil {
		t.Fatal(err)
	}
	targets := []string{"/"}
	for _, entry := range entries {
		targets = append(targets, "/"+entry.Name())
	}
	for _, target := range targets {
		response := get(t, http.MethodGet, target, nil)
		ext := path.Ext(target)
		cache := "public, max-age=31536000, immutable"
		if target == "/" || ext == ".html" {
			ext, cache = ".html", "no-cache"
		}
		if response.StatusCode != http.StatusOK || response.Header.Get("Content-Type") != types[ext] || response.Header.Get("Cache-Control") != cache {
			t.Errorf("%s: %d, type %q, cache %q", target, response.StatusCode, response.Header.Get("Content-Type"), response.Header.Get("Cache-Control"))
		}
		again := get(t, http.MethodGet, target, http.Header{"If-None-Match": {response.Header.Get("ETag")}})
		if again.StatusCode != http.StatusNotModified {
			t.Errorf("%s with its ETag: %d, want 304", target, again.StatusCode)
		}
	}
}

func TestHandlerProtectsEveryAnswer(t *testing.T) {
	for _, c := range []struct {
		method, target string
		status         int
	}{
		{"GET", "/", 200}, {"HEAD", "/", 200}, {"GET", "/nothing", 404}, {"GET", "/../web.go", 404}, {"GET", "/dist/index.html", 404},
		{"GET", "/metrics", 404}, {"POST", "/", 405}, {"GET", "//index.html", 404},
	} {
		response := get(t, c.method, c.target, nil)
		if response.StatusCode != c.status {
			t.Errorf("%s %s: %d, want %d", c.method, c.target, response.StatusCode, c.status)
		}
		policy := response.Header.Get("Content-Security-Policy")
		for _, directive := range []string{"default-src 'none'", "script-src 'self'", "connect-src 'self'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"} {
			if !strings.Contains(policy, directive) {
				t.Errorf("%s %s: the policy %q lacks %q", c.method, c.target, policy, directive)
			}
		}
		if strings.Contains(policy, "unsafe") || response.Header.Get("X-Content-Type-Options") != "nosniff" || response.Header.Get("Referrer-Policy") != "no-referrer" {
			t.Errorf("%s %s: headers %v", c.method, c.target, response.Header)
		}
		body, _ := io.ReadAll(response.Body)
		if c.method == "HEAD" && len(body) > 0 {
			t.Errorf("HEAD answered %d bytes", len(body))
		}
	}
}

func TestDistIsWhatTheSourcesBuild(t *testing.T) {
	built, err := build.Build(".")
	if err != nil {
		t.Fatal(err)
	}
	committed := 0
	err = fs.WalkDir(web.Files(), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		committed++
		content, err := fs.ReadFile(web.Files(), name)
		if !bytes.Equal(content, built[name]) {
			t.Errorf("dist/%s differs from its sources: run go generate in edge/web", name)
		}
		return err
	})
	if err != nil || committed != len(built) {
		t.Errorf("dist holds %d files, the sources build %d (%v)", committed, len(built), err)
	}
}
