package process

import (
	"regexp"
	"runtime/debug"
	"strings"
)

// semantic is what NATS accepts as the version of a service.
var semantic = regexp.MustCompile(`^\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?$`)

// Version returns the semantic version of this build, as the Go module system knows it; 0.0.0 stands for a build from a checkout without one.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "0.0.0"
	}
	if version := strings.TrimPrefix(info.Main.Version, "v"); semantic.MatchString(version) {
		return version
	}
	return "0.0.0"
}
