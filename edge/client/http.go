package client

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"time"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// maxAnswer is the largest answer that is read, in bytes: a page of the largest bodies fits several times.
const maxAnswer = 16 << 20

// Register makes an account at the server at address and returns its first tokens.
func Register(ctx context.Context, address string, in wire.Register, opts ...Option) (wire.Tokens, error) {
	return signIn(ctx, address, "register", &in, opts)
}

// Login returns tokens for a user and a password.
func Login(ctx context.Context, address string, in wire.Login, opts ...Option) (wire.Tokens, error) {
	return signIn(ctx, address, "login", &in, opts)
}

// Refresh spends a refresh token and returns new tokens.
func Refresh(ctx context.Context, address, refreshToken string, opts ...Option) (wire.Tokens, error) {
	return signIn(ctx, address, "refresh", &wire.Refresh{RefreshToken: refreshToken}, opts)
}

func signIn(ctx context.Context, address string, method subjects.Method, in any, opts []Option) (wire.Tokens, error) {
	var tokens wire.Tokens
	c, err := configure(address, opts)
	if err != nil {
		return tokens, err
	}
	defer c.http.CloseIdleConnections()
	err = c.post(ctx, "auth", method, "", in, &tokens)
	return tokens, err
}

// HTTPCall makes one call over HTTP with a token, which may be empty for calls before sign-in: for programs that need no connection. The
// error is a *wire.Error where the server answered.
func HTTPCall[In, Out any](ctx context.Context, address, token, call string, in In, opts ...Option) (Out, error) {
	var out Out
	function, method, err := subjects.ParseCall(call)
	if err != nil {
		return out, err
	}
	c, err := configure(address, opts)
	if err != nil {
		return out, err
	}
	defer c.http.CloseIdleConnections()
	err = c.post(ctx, function, method, token, in, &out)
	return out, err
}

// post makes one call over HTTP, within the time of one try.
func (c *config) post(ctx context.Context, function subjects.Function, method subjects.Method, token string, in, out any) error {
	ctx, cancel := context.WithTimeout(ctx, c.try)
	defer cancel()
	data, err := wire.Marshal(in)
	if err != nil {
		return fmt.Errorf("encode %s.%s: %w", function, method, err)
	}
	address := c.base.JoinPath("v1", "call", string(function), string(method)).String()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(data))
	if err != nil {
		return fmt.Errorf("call %s.%s: %w", function, method, err)
	}
	request.Header.Set("Content-Type", "application/json")
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := c.http.Do(request)
	if err != nil {
		return fmt.Errorf("call %s.%s: %w", function, method, err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("read the answer to %s.%s: %w", function, method, err)
	}
	if response.StatusCode != http.StatusOK {
		return problem(response, body)
	}
	if err := json.Unmarshal(body, out); err != nil {
		return fmt.Errorf("read the answer to %s.%s: %w", function, method, err)
	}
	return nil
}

// problem returns the error of an HTTP answer. Where something between client and server answered, the code is derived from the status.
func problem(response *http.Response, body []byte) *wire.Error {
	var p wire.Problem
	kind, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type"))
	if kind == "application/problem+json" && json.Unmarshal(body, &p) == nil && p.Code != "" {
		return &wire.Error{Code: p.Code, Message: p.Detail, RetryAfterMS: p.RetryAfterMS}
	}
	code := wire.Unavailable
	switch response.StatusCode {
	case http.StatusUnauthorized:
		code = wire.Unauthenticated
	case http.StatusForbidden:
		code = wire.Forbidden
	case http.StatusTooManyRequests:
		code = wire.RateLimited
	}
	e := wire.Errorf(code, "The server answered HTTP %d.", response.StatusCode)
	if seconds, err := strconv.Atoi(response.Header.Get("Retry-After")); err == nil && seconds > 0 {
		e.RetryAfterMS = (min(time.Duration(seconds), 3600) * time.Second).Milliseconds()
	}
	return e
}
