// Package images builds the images of confab with ko and looks into them.
package images

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"sigs.k8s.io/yaml"
)

const root = "../../../.."

// TestImagesHoldTheProgramsOfTheChart builds every image as task images does, for this machine alone, and pushes them to a registry in this process. Their base is an empty
// image instead of ko's own, which would have to be fetched.
func TestImagesHoldTheProgramsOfTheChart(t *testing.T) {
	srv := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer srv.Close()
	host := strings.TrimPrefix(srv.URL, "http://")
	pushBase(t, host+"/base:empty")
	command := taskCommand(t, "images")
	command = strings.Replace(command, "{{.CLI_ARGS}}", "--platform=linux/"+arch(t)+" --tags=test --sbom=none", 1)
	build := exec.Command("sh", "-c", command)
	build.Dir = root
	build.Env = append(os.Environ(), "KO_DOCKER_REPO="+host+"/confab", "KO_DEFAULTBASEIMAGE="+host+"/base:empty")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
	for image, args := range map[string][]string{
		"confab": {"function", "send", "--help"}, "edge": {"--help"}, "scaler": {"--help"},
		"auth": {"--help"}, "conversations": {"--help"}, "history": {"--help"}, "presence": {"--help"}, "receipts": {"--help"}, "send": {"--help"},
	} {
		t.Run(image, func(t *testing.T) {
			program := programOf(t, host+"/confab/"+image+":test", image)
			// What stands in the chart as arguments is what the program takes: an image is run as its entry point with them.
			out, err := exec.Command(program, args...).CombinedOutput()
			if err != nil || !bytes.Contains(out, []byte("--nats-url")) {
				t.Errorf("%s %v: %v\n%s", image, args, err, out)
			}
		})
	}
}

func arch(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("go", "env", "GOARCH").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// taskCommand returns the command of a task in the Taskfile.
func taskCommand(t *testing.T, task string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "Taskfile.yml"))
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Tasks map[string]struct{ Cmd string }
	}
	if err := yaml.Unmarshal(text, &file); err != nil || file.Tasks[task].Cmd == "" {
		t.Fatalf("the Taskfile has no task %s of one command (%v)", task, err)
	}
	return file.Tasks[task].Cmd
}

// pushBase pushes an image without files.
func pushBase(t *testing.T, reference string) {
	t.Helper()
	image, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{OS: "linux", Architecture: arch(t), RootFS: v1.RootFS{Type: "layers"}})
	if err != nil {
		t.Fatal(err)
	}
	at, err := name.ParseReference(reference)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(at, image); err != nil {
		t.Fatal(err)
	}
}

// programOf returns the program that is the entry point of an image, and checks that there is nothing beside it.
func programOf(t *testing.T, reference, program string) string {
	t.Helper()
	at, err := name.ParseReference(reference)
	if err != nil {
		t.Fatal(err)
	}
	image, err := remote.Image(at)
	if err != nil {
		t.Fatal(err)
	}
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if want := "/ko-app/" + program; len(config.Config.Entrypoint) != 1 || config.Config.Entrypoint[0] != want {
		t.Fatalf("the entry point is %q, not %s", config.Config.Entrypoint, want)
	}
	files := tar.NewReader(mutate.Extract(image))
	for {
		header, err := files.Next()
		if errors.Is(err, io.EOF) {
			t.Fatal("the image does not hold its entry point")
		}
		if err != nil {
			t.Fatal(err)
		}
		if "/"+strings.TrimPrefix(header.Name, "/") != config.Config.Entrypoint[0] {
			continue
		}
		path := filepath.Join(t.TempDir(), program)
		file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o700)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := io.Copy(file, files); err != nil || file.Close() != nil {
			t.Fatalf("after %d bytes: %v", n, err)
		} else {
			t.Logf("%s has %d bytes", program, n)
		}
		return path
	}
}
