package client

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/confab-im/confab/subjects/wire"
)

func TestSignInOverHTTP(t *testing.T) {
	p := newPeer(t)
	var paths []string
	p.http = func(path string, _ []byte) (any, *wire.Error) {
		paths = append(paths, path)
		if path == "/v1/call/auth/login" {
			return nil, wire.RetryAfter(wire.RateLimited, time.Second, "Slow down.")
		}
		return wire.Tokens{Token: "t", RefreshToken: "r", User: "ada", ExpiresAt: wire.At(time.Now())}, nil
	}
	if tokens, err := Register(within(t), p.URL, wire.Register{User: "ada", Password: "correct horse"}); err != nil || tokens.RefreshToken != "r" {
		t.Errorf("%+v, %v", tokens, err)
	}
	if tokens, err := Refresh(within(t), p.URL+"/", "r"); err != nil || tokens.Token != "t" {
		t.Errorf("%+v, %v", tokens, err)
	}
	_, err := Login(within(t), p.URL+"/v1/ws", wire.Login{User: "ada", Password: "x"})
	var e *wire.Error
	if !errors.As(err, &e) || e.Code != wire.RateLimited || e.RetryAfterMS != 1000 {
		t.Errorf("%v", err)
	}
	if _, err := HTTPCall[wire.UsersQuery, wire.Tokens](within(t), p.URL, "t", "presence.get", wire.UsersQuery{}); err != nil {
		t.Error(err)
	}
	if _, err := HTTPCall[wire.Empty, wire.Empty](within(t), p.URL, "t", "../../etc", wire.Empty{}); err == nil {
		t.Error("a call that is no name was made")
	}
	want := []string{"/v1/call/auth/register", "/v1/call/auth/refresh", "/v1/call/auth/login", "/v1/call/presence/get"}
	for i, path := range want {
		if i >= len(paths) || paths[i] != path {
			t.Fatalf("%q", paths)
		}
	}
}

func TestAnswersOfWhatStandsBetweenHaveACodeToo(t *testing.T) {
	status := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "2")
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(status)
	}))
	defer server.Close()
	for s, code := range map[int]wire.Code{502: wire.Unavailable, 503: wire.Unavailable, 404: wire.Unavailable, 302: wire.Unavailable, 401: wire.Unauthenticated, 403: wire.Forbidden, 429: wire.RateLimited} {
		status = s
		_, err := Login(within(t), server.URL, wire.Login{User: "ada", Password: "x"})
		var e *wire.Error
		if !errors.As(err, &e) || e.Code != code || e.RetryAfterMS != 2000 {
			t.Errorf("%d: %v", s, err)
		}
	}
}
