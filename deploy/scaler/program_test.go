package scaler

import (
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/confab-im/confab/deploy/scaler/externalscaler"
	"github.com/confab-im/confab/subjects"
)

func TestSettingsAreRefusedThatAreNotSafe(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*programConfig)
		want   string // part of the error; "" = none
	}{
		"the defaults":               {func(*programConfig) {}, ""},
		"no port":                    {func(c *programConfig) { c.Listen = "6000" }, "host:port"},
		"everywhere without TLS":     {func(c *programConfig) { c.Listen = ":6000" }, "needs TLS"},
		"everywhere, and said so":    {func(c *programConfig) { c.Listen, c.Plaintext = ":6000", true }, ""},
		"everywhere with TLS":        {func(c *programConfig) { c.Listen, c.Certificate, c.Key = "0.0.0.0:6000", "a", "b" }, ""},
		"a certificate without key":  {func(c *programConfig) { c.Certificate = "a" }, "belong together"},
		"an authority and plaintext": {func(c *programConfig) { c.ClientCA = "a" }, "needs tls-certificate"},
		"no time to be idle":         {func(c *programConfig) { c.Idle = 0 }, "idle"},
	} {
		t.Run(name, func(t *testing.T) {
			config := defaultConfig()
			c.change(&config)
			err := config.Validate()
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("the error is %v, want %q", err, c.want)
			}
		})
	}
}

func FuzzTrigger(f *testing.F) {
	f.Add("echo", "4", "1m", "", "")
	f.Add("a.>", "-1", "-1s", "connections", "9999999999999999999")
	f.Fuzz(func(t *testing.T, function, concurrency, idle, edges, target string) {
		metadata := map[string]string{}
		for key, value := range map[string]string{"function": function, "concurrency": concurrency, "idle": idle, "edges": edges, "target": target} {
			if value != "" {
				metadata[key] = value
			}
		}
		s := &Scaler{config: Config{Idle: DefaultIdle}}
		got, err := s.parse(&externalscaler.ScaledObjectRef{ScalerMetadata: metadata})
		if err != nil {
			if status.Code(err) != codes.InvalidArgument {
				t.Errorf("%v is answered with %v", metadata, err)
			}
			return
		}
		if _, err := subjects.ParseFunction(string(got.function)); (err != nil) != (edges != "") || got.concurrency < 0 || got.idle < 0 {
			t.Errorf("%v is read as %+v", metadata, got)
		}
	})
}
