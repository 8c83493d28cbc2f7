package client

import (
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/confab-im/confab/subjects/wire"
)

func TestClientIDsAscendAndTellTheirTime(t *testing.T) {
	form := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	last := ""
	for range 20_000 { // more than a millisecond has numbers for
		id := NewClientID()
		if id <= last || !form.MatchString(id) {
			t.Fatalf("%s after %s", id, last)
		}
		last = id
	}
	ms, err := strconv.ParseInt(strings.ReplaceAll(last[:13], "-", ""), 16, 64)
	if age := time.Since(time.UnixMilli(ms)); err != nil || age.Abs() > time.Minute {
		t.Errorf("%s is %v old, %v", last, age, err)
	}
}

// TestAWrongClockCanSend: the server judges the age of a client id by its own clock.
func TestAWrongClockCanSend(t *testing.T) {
	p := newPeer(t)
	p.welcome.ServerTime = wire.At(time.Now().Add(time.Hour))
	p.welcome.ExpiresAt = wire.At(time.Now().Add(2 * time.Hour))
	c := p.dial()
	id := ""
	c.mint(&id)
	ms, _ := strconv.ParseInt(strings.ReplaceAll(id[:13], "-", ""), 16, 64)
	if off := time.Until(time.UnixMilli(ms)) - time.Hour; off.Abs() > time.Minute {
		t.Errorf("the id is %v off the server's clock", off)
	}
}
