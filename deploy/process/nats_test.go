package process

import "testing"

func TestPasswordsStayOutOfErrors(t *testing.T) {
	for list, want := range map[string]string{
		"nats://a:secret@one:4222,nats://two:4222": "nats://a:xxxxx@one:4222,nats://two:4222",
		"nats://a:sec%ret@one:4222":                "one:4222",
		"one:4222":                                 "one:4222",
	} {
		if got := redacted(list); got != want {
			t.Errorf("%s is shown as %s, want %s", list, got, want)
		}
	}
}
