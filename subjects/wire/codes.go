package wire

import (
	"errors"
	"fmt"
	"time"
)

// Code is one of the closed set of error codes. Codes are API; the sentences beside them may change.
type Code string

// The error codes (PROTOCOL.md, "Error codes").
const (
	BadFrame           Code = "bad_frame"
	BadID              Code = "bad_id"
	BadData            Code = "bad_data"
	TooLarge           Code = "too_large"
	Unauthenticated    Code = "unauthenticated"
	TokenExpired       Code = "token_expired"
	TokenInQuery       Code = "token_in_query"
	Forbidden          Code = "forbidden"
	NotFound           Code = "not_found"
	Conflict           Code = "conflict"
	IDConflict         Code = "id_conflict"
	RetryWindowExpired Code = "retry_window_expired"
	Gone               Code = "gone"
	RateLimited        Code = "rate_limited"
	UnknownCall        Code = "unknown_call"
	Unavailable        Code = "unavailable"
	Timeout            Code = "timeout"
	StorageUnavailable Code = "storage_unavailable"
	Internal           Code = "internal"
)

// CodeInfo explains a code. Documentation, HTTP statuses and the errors command all come from the table of Codes.
type CodeInfo struct {
	Code    Code
	Status  int    // HTTP status of the code
	Unknown bool   // the call may have taken effect: repeat it with the same client_id
	Meaning string // what happened
	Remedy  string // what the caller does next
}

// Codes is the closed set, in the order of the protocol.
var Codes = []CodeInfo{
	{BadFrame, 400, false, "A line was not a valid frame: broken JSON, a doubled key, too deep, trailing data, or an id that is still open.", "Send one JSON object a line with an unused id; do not repeat the line unchanged."},
	{BadID, 400, false, "An id is not of the allowed form.", "Use lower-case letters, digits, '-' and '_', at most 63 characters, beginning with a letter or digit."},
	{BadData, 400, false, "A field is missing, of the wrong type, or its value is not allowed.", "Correct the field that the message names."},
	{TooLarge, 413, false, "The body is larger than 16 KiB.", "Send less, or store the content elsewhere and send a link."},
	{Unauthenticated, 401, false, "There is no token, or it is not valid here.", "Sign in, then send hello or the Authorization header with the new token."},
	{TokenExpired, 401, false, "The token was valid and has expired.", "Call auth.refresh, then send hello again with the new token."},
	{TokenInQuery, 400, false, "A token stood in the address, where logs and histories keep it.", "Send the token in hello, in the Authorization header or as a subprotocol, and revoke the one that leaked."},
	{Forbidden, 403, false, "The user's role does not allow this.", "Ask an owner or a moderator of the conversation."},
	{NotFound, 404, false, "There is no such thing, or it is not visible to the user.", "Check the id; ask to be added to the conversation."},
	{Conflict, 409, false, "The id is taken, or the state does not allow the change.", "Choose another id, or read the current state first."},
	{IDConflict, 409, false, "This client_id was used before with another body.", "Use a new client_id for new content."},
	{RetryWindowExpired, 409, false, "The client_id is older than the time within which repeats are recognised.", "Look in history whether the message is there; if not, send it with a new client_id."},
	{Gone, 410, false, "The entry was erased by retention.", "Nothing; it cannot be read any more."},
	{RateLimited, 429, false, "Too many calls in too short a time.", "Wait for retry_after_ms, then send again."},
	{UnknownCall, 404, false, "No function offers this call to clients.", "Compare with the list of calls in the answer to hello."},
	{Unavailable, 503, true, "No instance of the function could take the call in time.", "Wait for retry_after_ms, then send again with the same client_id."},
	{Timeout, 504, true, "No answer came before the deadline; the call may have taken effect.", "Send again with the same client_id."},
	{StorageUnavailable, 503, true, "The store did not confirm; the call may have taken effect.", "Send again with the same client_id; operators look at the disk and the stream leaders."},
	{Internal, 500, true, "Something broke on the server; the details are in its log.", "Send again with the same client_id; report it if it stays."},
}

var codes = func() map[Code]CodeInfo {
	m := make(map[Code]CodeInfo, len(Codes))
	for _, info := range Codes {
		m[info.Code] = info
	}
	return m
}()

// Info returns the explanation of the code; a code outside the set is explained as Internal.
func (c Code) Info() CodeInfo {
	if info, ok := codes[c]; ok {
		return info
	}
	return codes[Internal]
}

// Known reports whether the code belongs to the closed set.
func (c Code) Known() bool { _, ok := codes[c]; return ok }

// Error is an error that clients may see: a code and a sentence that says what to do. It names no subject, stack or file.
type Error struct {
	Code         Code   `json:"code"`
	Message      string `json:"message"`
	RetryAfterMS int64  `json:"retry_after_ms"` // milliseconds to wait before the next try; 0 = no advice
}

// Error returns the code and the sentence.
func (e *Error) Error() string { return string(e.Code) + ": " + e.Message }

// Is reports whether target is an *Error of the same code, so that errors.Is(err, &Error{Code: NotFound}) works.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code
}

// Errorf returns an *Error of the given code with a formatted sentence.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// RetryAfter returns an *Error that tells the caller how long to wait, rounded up to milliseconds.
func RetryAfter(code Code, wait time.Duration, format string, args ...any) *Error {
	e := Errorf(code, format, args...)
	e.RetryAfterMS = max(1, (wait + time.Millisecond - 1).Milliseconds())
	return e
}

// CodeOf returns the code that err carries, "" for nil, and Internal for an error without a code.
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return Internal
}

// CloseCode is a WebSocket close code. 4000 to 4499 mean: reconnect with full jitter; 4500 to 4999: do not.
type CloseCode int

// The close codes (PROTOCOL.md, "Close codes").
const (
	CloseInvalidUTF8     CloseCode = 1007
	CloseTooBig          CloseCode = 1009
	CloseBinary          CloseCode = 1003
	CloseProtocol        CloseCode = 1002
	CloseDraining        CloseCode = 4000
	CloseTooSlow         CloseCode = 4001
	CloseNoPong          CloseCode = 4002
	CloseTokenExpired    CloseCode = 4003
	CloseResync          CloseCode = 4004
	CloseRateLimited     CloseCode = 4005
	CloseInternal        CloseCode = 4006
	CloseUnauthenticated CloseCode = 4500
	CloseForbidden       CloseCode = 4501
	CloseBadFrames       CloseCode = 4502
	CloseReplaced        CloseCode = 4503
	CloseTooMany         CloseCode = 4504
	CloseVersion         CloseCode = 4505
	CloseRevoked         CloseCode = 4506
)

// CloseCodes explains the close codes, in ascending order.
var CloseCodes = []struct {
	Code    CloseCode
	Meaning string
}{
	{CloseProtocol, "The bytes broke the WebSocket protocol."},
	{CloseBinary, "A binary message came; confab speaks text."},
	{CloseInvalidUTF8, "A message was not valid UTF-8."},
	{CloseTooBig, "A message was larger than limits.frame_bytes."},
	{CloseDraining, "This edge stops; another one takes the connection."},
	{CloseTooSlow, "The client did not read fast enough; it resumes by seq."},
	{CloseNoPong, "No pong came in time."},
	{CloseTokenExpired, "The token has expired; refresh it, then connect again."},
	{CloseResync, "The edge lost its place; connect again and ask history.heads."},
	{CloseRateLimited, "The client ignored rate limits."},
	{CloseInternal, "Something broke on the edge."},
	{CloseUnauthenticated, "No valid hello came in time."},
	{CloseForbidden, "This connection may not do that."},
	{CloseBadFrames, "Ten lines were no valid frames."},
	{CloseReplaced, "A newer connection of the same device took over."},
	{CloseTooMany, "Too many connections."},
	{CloseVersion, "No offered protocol version is spoken here."},
	{CloseRevoked, "The account is disabled or the session was revoked."},
}

// Reconnect reports whether a client should connect again after the code: below 4500, so also after an unclean end.
func (c CloseCode) Reconnect() bool { return c < CloseUnauthenticated }
