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
	metadataEdges       = "edges"       // in the place of a function: the figure of edges that counts, which is "connections"
	metadataTarget      = "target"      // how much of that one edge takes
)

// edgesConnections is the one figure of edges.
const edgesConnections = "connections"

// maxConcurrency bounds what a trigger may say.
const maxConcurrency = 1 << 20

// trigger is what an object in Kubernetes says of a function, or of edges.
type trigger struct {
	function    subjects.Function // "" = edges
	concurrency int               // calls that an instance works on at once, or connections of an edge; 0 = not known
	idle        time.Duration
}

// metric returns the name of the trigger's figure.
func (t trigger) metric() string {
	if t.function == "" {
		return "confab-edges-" + edgesConnections
	}
	return "confab-" + string(t.function)
}

// parse reads the metadata of a trigger.
func (s *Scaler) parse(ref *externalscaler.ScaledObjectRef) (trigger, error) {
	metadata := ref.GetScalerMetadata()
	wrong := func(key, is string) error {
		return status.Error(codes.InvalidArgument, fmt.Sprintf("ScaledObject %s/%s: metadata %s: %q is %s", ref.GetNamespace(), ref.GetName(), key, metadata[key], is))
	}
	number := func(key string) (int, error) {
		n, err := strconv.Atoi(metadata[key])
		if err != nil || n < 1 || n > maxConcurrency {
			return 0, wrong(key, "no whole number from 1")
		}
		return n, nil
	}
	if figure, given := metadata[metadataEdges]; given {
		if figure != edgesConnections {
			return trigger{}, wrong(metadataEdges, "not "+edgesConnections)
		}
		n, err := number(metadataTarget)
		return trigger{concurrency: n}, err
	}
	t := trigger{idle: s.config.Idle}
	var err error
	if t.function, err = subjects.ParseFunction(metadata[metadataFunction]); err != nil {
		return trigger{}, wrong(metadataFunction, "no name of a function")
	}
	if _, given := metadata[metadataConcurrency]; given {
		if t.concurrency, err = number(metadataConcurrency); err != nil {
			return trigger{}, err
		}
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
