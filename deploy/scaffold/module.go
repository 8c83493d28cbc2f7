package scaffold

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
)

// confab is the path of this module.
const confab = "github.com/confab-im/confab"

// goVersion is the oldest version of Go that confab compiles with.
const goVersion = "1.26.0"

// release is a version that the Go module system can fetch.
var release = regexp.MustCompile(`^\d+\.\d+\.\d+$`)

// Source returns the source tree that this program was built from, "" where that is gone or was a release, which the Go module system fetches.
func Source() string {
	_, file, _, ok := runtime.Caller(0)
	if !ok || !filepath.IsAbs(file) || strings.Contains(file, "@") {
		return ""
	}
	root := filepath.Dir(filepath.Dir(filepath.Dir(file)))
	if data, err := os.ReadFile(filepath.Join(root, "go.mod")); err != nil || moduleLine(data) != confab {
		return ""
	}
	return root
}

// module is the module that a folder is in.
type module struct {
	path  string // "" = none
	below string // from the module's root to the folder, "" or with a slash in front
	knows bool   // it is confab, or requires it
}

// moduleOf looks for a go.mod in a folder, which need not exist, and above.
func moduleOf(dir string) (module, error) {
	below := ""
	for at := dir; ; at = filepath.Dir(at) {
		data, err := os.ReadFile(filepath.Join(at, "go.mod"))
		if err == nil {
			m := module{path: moduleLine(data), below: below}
			m.knows = m.path == confab || bytes.Contains(data, []byte(confab+" v"))
			if m.path == "" {
				return module{}, fmt.Errorf("%s has no module line", filepath.Join(at, "go.mod"))
			}
			return m, nil
		}
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) {
			return module{}, err
		}
		if at == filepath.Dir(at) {
			return module{}, nil
		}
		below = path.Join("/", filepath.Base(at), below)
	}
}

// moduleLine returns the path of the module of a go.mod, "" where it has none.
func moduleLine(data []byte) string {
	for line := range strings.Lines(string(data)) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "module" {
			return strings.Trim(fields[1], `"`)
		}
	}
	return ""
}

// moduleFiles returns the go.mod of a module of its own. With a source tree of confab in the place of a release, its requirements and checksums are taken over,
// so that nothing must be fetched or tidied before the first build.
func (c Config) moduleFiles(name string) (map[string][]byte, error) {
	if c.Source == "" {
		text := "module " + name + "\n\ngo " + goVersion + "\n"
		if release.MatchString(c.Version) {
			text += "\nrequire " + confab + " v" + c.Version + "\n"
		}
		return map[string][]byte{"go.mod": []byte(text)}, nil
	}
	mod, err := os.ReadFile(filepath.Join(c.Source, "go.mod"))
	if err != nil {
		return nil, err
	}
	sum, err := os.ReadFile(filepath.Join(c.Source, "go.sum"))
	if err != nil {
		return nil, err
	}
	var text bytes.Buffer
	fmt.Fprintf(&text, "module %s\n\ngo %s\n\nrequire %s v0.0.0\n\n", name, goVersion, confab)
	fmt.Fprintf(&text, "// A build of confab that is no release stands for %s.\nreplace %s => %s\n\nrequire (\n", confab, confab, quoted(c.Source))
	lines := bufio.NewScanner(bytes.NewReader(mod))
	for lines.Scan() {
		// A requirement is a path and a version, and there may be a comment behind it.
		if fields := strings.Fields(lines.Text()); strings.HasPrefix(lines.Text(), "\t") && len(fields) >= 2 && strings.HasPrefix(fields[1], "v") {
			fmt.Fprintf(&text, "\t%s %s // indirect\n", fields[0], fields[1])
		}
	}
	text.WriteString(")\n")
	return map[string][]byte{"go.mod": text.Bytes(), "go.sum": sum}, lines.Err()
}

// quoted returns a path as go.mod wants it.
func quoted(path string) string {
	if strings.ContainsAny(path, " \t\"'`()[]{},;") || strings.Contains(path, "//") {
		return strconv.Quote(path)
	}
	return path
}
