package scaler

import (
	"fmt"
	"strconv"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/confab-im/confab/deploy/load"
	"github.com/confab-im/confab/deploy/scaler/externalscaler"
	"github.com/confab-im/confab/subjects"
)

// The metadata of a trigger that is for this scaler; all else is KEDA's.
const (
	metadataFunction    = "function"    // which function; required
	metadataConcurrency = "concurrency" // calls that one instance works on at once, in the place of what is registered
	metadataIdle        = "idle"        // for how long instances stay that nobody calls
)

// maxConcurrency bounds what a trigger may say.
const maxConcurrency = 1 << 20

// trigger is what an object in Kubernetes says of a function.
type trigger struct {
	function    subjects.Function
	concurrency int // 0 = not known
	idle        time.Duration
}

// parse reads the metadata of a trigger.
func (s *Scaler) parse(ref *externalscaler.ScaledObjectRef) (trigger, error) {
	metadata := ref.GetScalerMetadata()
	wrong := func(key, is string) error {
		return status.Error(codes.InvalidArgument, fmt.Sprintf("ScaledObject %s/%s: metadata %s: %q is %s", ref.GetNamespace(), ref.GetName(), key, metadata[key], is))
	}
	t := trigger{function: subjects.Function(metadata[metadataFunction]), idle: s.config.Idle}
	if _, err := subjects.ParseFunction(string(t.function)); err != nil {
		return trigger{}, wrong(metadataFunction, "no name of a function")
	}
	if text, given := metadata[metadataConcurrency]; given {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > maxConcurrency {
			return trigger{}, wrong(metadataConcurrency, "no whole number from 1")
		}
		t.concurrency = n
	}
	if text, given := metadata[metadataIdle]; given {
		d, err := time.ParseDuration(text)
		if err != nil || d < 0 {
			return trigger{}, wrong(metadataIdle, "no duration such as 1m30s")
		}
		t.idle = d
	}
	return t, nil
}

// active reports whether a function needs any instance: work waits, is being done, or came a short while ago.
func (t trigger) active(l load.Load) bool {
	return l.Waits() || l.Instances > 0 && (l.Peak > 0 || l.IdleFor < t.idle)
}

func unknown(f subjects.Function) error {
	return status.Error(codes.NotFound, fmt.Sprintf("The function %s is not registered and no instance of it is up: is its name right, and has `confab declare` been run with its manifest?", f))
}

func unsettled() error {
	return status.Error(codes.Unavailable, "The scaler has just started, or lost its connection to NATS, and has not heard enough to judge.")
}
