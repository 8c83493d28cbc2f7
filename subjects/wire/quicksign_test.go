package wire

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/confab-im/confab/subjects"
)

// TestSigningInIsWrittenAsReflectionWritesIt holds for whatever stands in the fields.
func TestSigningInIsWrittenAsReflectionWritesIt(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		word := rapid.OneOf(rapid.StringMatching(`[a-z0-9_-]{1,8}`), rapid.StringN(0, 8, -1), rapid.SampledFrom([]string{`"`, `\`, "<&>", "\u2028", "\x7f", "\xff"}))
		text := func(label string) string { return word.Draw(t, label) }
		at := func(label string) Time { return At(time.UnixMilli(rapid.Int64Range(-1<<46, 1<<46).Draw(t, label))) }
		var tokens Verifications
		var verified Verified
		memberships := MembershipsOf{Users: map[subjects.User][]Membership{}}
		for range rapid.IntRange(0, 3).Draw(t, "tokens") {
			tokens.Tokens = append(tokens.Tokens, text("token"))
			one := VerifiedToken{Identity: &Identity{User: subjects.User(text("user")), Session: text("session"), ExpiresAt: at("expires"), IssuedAt: at("issued")}}
			if rapid.IntRange(0, 5).Draw(t, "refused") == 0 {
				one = VerifiedToken{Error: Errorf(Unauthenticated, "No.")}
			}
			verified.Tokens = append(verified.Tokens, one)
			list := []Membership{{Conversation: subjects.Conversation("g." + text("conversation")), From: Seq(rapid.Uint64().Draw(t, "from"))}, {Small: rapid.Bool().Draw(t, "small")}}
			memberships.Users[subjects.User(text("member"))] = list[:rapid.IntRange(0, 2).Draw(t, "memberships")]
		}
		welcome := Welcome{
			User: subjects.User(text("welcome")), Device: subjects.Device(text("device")), Session: text("session"), ServerTime: at("now"), ExpiresAt: at("end"),
			PingSeconds: rapid.Int().Draw(t, "ping"), Calls: tokens.Tokens,
			Limits: Limits{FrameBytes: rapid.Int().Draw(t, "frame"), BodyBytes: MaxBody, CallsASec: rapid.SampledFrom([]float64{0, 50, 0.5, 1e21, -3}).Draw(t, "calls"), OpenCalls: rapid.IntRange(0, 64).Draw(t, "open")},
		}
		left := at("left")
		for _, v := range []any{tokens, verified, memberships, welcome, DeviceRecord{Edge: subjects.Edge(text("edge")), At: at("at")}, DeviceRecord{Edge: "edge-1", At: at("at"), LeftAt: &left}} {
			same(t, v)
		}
	})
}

// signingIn are bodies that are read by hand, in the form in which they are written.
var signingIn = map[string]func() any{
	`{"token":"eyJh.eyJz.c2ln","device":"web-1"}`: func() any { return new(Hello) },
	`{"device":"web-1"}`:                          func() any { return new(Hello) },
	`{"tokens":["eyJh.eyJz.c2ln","a"]}`:           func() any { return new(Verifications) },
	`{"tokens":[{"identity":{"user":"ada","session":"s","expires_at":"2026-11-20T15:04:05.123Z","issued_at":"2024-02-29T00:00:00.000Z"}}]}`: func() any { return new(Verified) },
	`{"users":{"ada":[{"conversation":"g.general","from":1},{"conversation":"c.news","from":9}],"bob":[]}}`:                                 func() any { return new(MembershipsOf) },
	`{"edge":"edge-1","at":"2026-11-20T15:04:05.123Z"}`:                                                                                     func() any { return new(DeviceRecord) },
	`{"edge":"edge-1","at":"2026-11-20T15:04:05.123Z","left_at":"2026-11-20T15:04:06.000Z"}`:                                                func() any { return new(DeviceRecord) },
}

func TestSigningInIsReadByHand(t *testing.T) {
	for text, empty := range signingIn {
		if !empty().(quickReader).read([]byte(text)) {
			t.Errorf("%s needs reflection", text)
		}
	}
}

// FuzzReadSigningIn compares both ways to read: what is read by hand is what package json would have read, and it would have taken it.
func FuzzReadSigningIn(f *testing.F) {
	for text := range signingIn {
		f.Add([]byte(text))
	}
	for _, text := range []string{
		`{"token":"a","device":"Web"}`, `{"token":"a","device":""}`, `{"token":"a","device":"a","device":"b"}`, `{"device":"a"} `, `{"token":"\u0061\ud83d\ude00","device":"a"}`, `{"token":null,"device":"a"}`,
		`{"tokens":[]}`, `{"tokens":["a",]}`, `{"tokens":["a"]]}`, `{"tokens":[{"identity":{"user":"ada","session":"s","expires_at":"2023-02-29T00:00:00.000Z","issued_at":"2024-02-30T00:00:00.000Z"}}]}`,
		`{"tokens":[{"identity":{"user":"ada","session":"s","expires_at":"0000-01-01T00:00:00.000Z","issued_at":"2024-02-29T24:00:00.000Z"}}]}`, `{"users":{}}`, `{"users":{"ada":[],"ada":[]}}`,
		`{"users":{"ada":[{"conversation":"d.b.a","from":1}]}}`, `{"users":{"ada":[{"conversation":"g.a","from":01}]}}`, `{"users":{"ada":[,]}}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, empty := range signingIn {
			quick, slow := empty(), empty()
			if !quick.(quickReader).read(data) {
				if !reflect.DeepEqual(quick, empty()) {
					t.Fatalf("%q is not read, and leaves %+v", data, quick)
				}
				continue
			}
			if err := CheckJSON(data); err != nil {
				t.Fatalf("%q is read as %+v: %v", data, quick, err)
			}
			if err := json.Unmarshal(data, slow); err != nil || !reflect.DeepEqual(quick, slow) {
				t.Fatalf("%q is read as %+v, by reflection as %+v, %v", data, quick, slow, err)
			}
		}
	})
}
