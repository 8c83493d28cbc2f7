package externalscaler

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// TestTheGeneratedFilesAreThoseOfTheProto compares names, numbers and types without the compiler, which few machines have.
func TestTheGeneratedFilesAreThoseOfTheProto(t *testing.T) {
	text, err := os.ReadFile("externalscaler.proto")
	if err != nil {
		t.Fatal(err)
	}
	var written, generated []string
	message := ""
	line := regexp.MustCompile(`(?m)^message (\w+)|^  ((?:repeated )?[\w<>, ]+) (\w+) = (\d+);|^  rpc (\w+)\((\w+)\) returns \((stream )?(\w+)\)`)
	for _, m := range line.FindAllStringSubmatch(string(text), -1) {
		switch {
		case m[1] != "":
			message = m[1]
		case m[5] != "":
			written = append(written, fmt.Sprintf("rpc %s(%s) %s%s", m[5], m[6], m[7], m[8]))
		default:
			written = append(written, fmt.Sprintf("%s.%s = %s %s", message, m[3], m[4], m[2]))
		}
	}
	file := File_externalscaler_proto
	for i := range file.Messages().Len() {
		fields := file.Messages().Get(i).Fields()
		for j := range fields.Len() {
			f := fields.Get(j)
			generated = append(generated, fmt.Sprintf("%s.%s = %d %s", f.Parent().Name(), f.Name(), f.Number(), kind(f)))
		}
	}
	methods := file.Services().Get(0).Methods()
	for i := range methods.Len() {
		m := methods.Get(i)
		stream := ""
		if m.IsStreamingServer() {
			stream = "stream "
		}
		generated = append(generated, fmt.Sprintf("rpc %s(%s) %s%s", m.Name(), m.Input().Name(), stream, m.Output().Name()))
	}
	slices.Sort(written)
	slices.Sort(generated)
	if len(written) < 15 || !slices.Equal(written, generated) {
		t.Errorf("run task generate:keda: the file says\n%q\nand what was generated\n%q", written, generated)
	}
	if name := file.Services().Get(0).FullName(); name != "externalscaler.ExternalScaler" {
		t.Errorf("the service is called %s, which no KEDA asks for", name)
	}
}

func kind(f protoreflect.FieldDescriptor) string {
	switch {
	case f.IsMap():
		return fmt.Sprintf("map<%s, %s>", f.MapKey().Kind(), f.MapValue().Kind())
	case f.Kind() == protoreflect.MessageKind && f.IsList():
		return "repeated " + string(f.Message().Name())
	case f.Kind() == protoreflect.MessageKind:
		return string(f.Message().Name())
	}
	return f.Kind().String()
}
