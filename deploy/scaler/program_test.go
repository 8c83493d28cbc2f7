package scaler

import (
	"strings"
	"testing"
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
