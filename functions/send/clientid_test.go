package send

import (
	"testing"
	"time"

	"github.com/google/uuid"
)

func TestMintedAt(t *testing.T) {
	id, err := uuid.NewV7()
	if err != nil {
		t.Fatal(err)
	}
	if at, ok := mintedAt(id.String()); !ok || time.Since(at).Abs() > time.Minute {
		t.Errorf("a fresh UUIDv7 says %v, %v", at, ok)
	}
	if at, ok := mintedAt("017f22e2-79b0-7cc3-98c4-dc0c0c07398f"); !ok || at.UTC().Format(time.RFC3339) != "2022-02-22T19:22:22Z" {
		t.Errorf("the example of RFC 9562 says %v, %v", at.UTC(), ok)
	}
	for _, opaque := range []string{
		"", "m-1", uuid.NewString(), // version 4
		"017f22e2-79b0-7cc3-58c4-dc0c0c07398f",  // another variant
		"017f22e279b07cc398c4dc0c0c07398f",      // no dashes
		"017f22e2-79b0-7cc3-98c4-dc0c0c07398",   // short
		"017f22e2-79b0-7cc3-98c4-dc0c0c07398fa", // long
		"017f22e2-79b0-7cc3-98c4-dc0c0c07398g",  // no hex
		"017f22e2_79b0_7cc3_98c4_dc0c0c07398f",
	} {
		if at, ok := mintedAt(opaque); ok {
			t.Errorf("%q says %v", opaque, at)
		}
	}
}

func FuzzMintedAt(f *testing.F) {
	f.Add("017f22e2-79b0-7cc3-98c4-dc0c0c07398f")
	f.Add("m-1")
	f.Fuzz(func(t *testing.T, clientID string) {
		at, ok := mintedAt(clientID)
		if !ok {
			return
		}
		id, err := uuid.Parse(clientID)
		if err != nil || id.Version() != 7 {
			t.Fatalf("%q is no UUIDv7: %v", clientID, err)
		}
		if sec, nsec := id.Time().UnixTime(); at.UnixMilli() != sec*1000+nsec/1e6 {
			t.Fatalf("%q says %v", clientID, at)
		}
	})
}
