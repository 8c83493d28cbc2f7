package cli

import (
	"context"

	"github.com/confab-im/confab/deploy/process"
	"github.com/confab-im/confab/deploy/standalone"
)

// up starts everything on this machine.
func up(ctx context.Context, c call) error {
	config := standalone.DefaultConfig()
	config.Log.Level = "warn"                        // the banner says what a person needs; a container sets info
	rest, err := loadFrom(c.source(), "up", &config) // what runs for long must not miss a setting
	if err != nil {
		return err
	}
	if err := noArguments("up", rest); err != nil {
		return err
	}
	log, err := config.Log.Logger(c.note)
	if err != nil {
		return &process.UsageError{Err: err}
	}
	return standalone.Run(ctx, config, log, c.out)
}
