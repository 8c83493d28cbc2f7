package kubernetes

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// cluster is the one that all tests use. Each works in a namespace of its own.
var cluster *Cluster

func TestMain(m *testing.M) { os.Exit(startAndRun(m)) }

func startAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "confab-kubernetes-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	images, err := buildImages(filepath.Join(dir, "images"))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	begun := time.Now()
	if cluster, err = Start(context.Background(), dir, images); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer cluster.Stop()
	fmt.Printf("control plane and KEDA are ready after %s\n", time.Since(begun).Round(time.Millisecond))
	code := m.Run()
	if code != 0 {
		fmt.Println(cluster.Logs())
	}
	return code
}

// buildImages builds the programs that the images would hold: confab's, the tests' own, and the NATS server. An image is called after its program, but for
// that of NATS.
func buildImages(dir string) (map[string]string, error) {
	for folder, packages := range map[string][]string{
		".":        {"./cmd/..."},
		"../../..": {"./deploy/cmd/...", "./edge/cmd/edge", "./functions/cmd/...", "github.com/nats-io/nats-server/v2"},
	} {
		build := exec.Command("go", append([]string{"build", "-tags", "nomsgpack", "-o", dir + "/"}, packages...)...)
		build.Dir, build.Env = folder, append(os.Environ(), "CGO_ENABLED=0") // a pod holds no library
		if out, err := build.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("build the programs: %w\n%s", err, out)
		}
	}
	built, err := filepath.Glob(filepath.Join(dir, "*"))
	images := map[string]string{}
	for _, path := range built {
		images[filepath.Base(path)] = path
	}
	images["nats"] = images["nats-server"]
	return images, err
}
