package wire

import (
	"github.com/confab-im/confab/subjects"
)

// MinPassword and MaxPassword bound a password in bytes; MaxToken bounds a token before anything of it is parsed.
const (
	MinPassword = 8
	MaxPassword = 1024
	MaxToken    = 4096
)

// Register is the data of auth.register.
type Register struct {
	User     subjects.User   `json:"user"`
	Password string          `json:"password"`
	Name     string          `json:"name,omitempty"`   // shown to others; empty = the user
	Invite   string          `json:"invite,omitempty"` // needed where registration is by invite
	Device   subjects.Device `json:"device,omitempty"`
}

// Validate returns an *Error that names the first field that is wrong.
func (r *Register) Validate() error {
	if r.User == "" {
		return Errorf(BadData, "user is missing.")
	}
	if len(r.Password) < MinPassword || len(r.Password) > MaxPassword {
		return Errorf(BadData, "password must have %d to %d bytes.", MinPassword, MaxPassword)
	}
	return validTitle("name", r.Name)
}

// Login is the data of auth.login.
type Login struct {
	User     subjects.User   `json:"user"`
	Password string          `json:"password"`
	Device   subjects.Device `json:"device,omitempty"`
}

// Validate returns an *Error that names the first field that is wrong.
func (l *Login) Validate() error {
	if l.User == "" || l.Password == "" {
		return Errorf(BadData, "user and password are both needed.")
	}
	if len(l.Password) > MaxPassword {
		return Errorf(BadData, "password must have at most %d bytes.", MaxPassword)
	}
	return nil
}

// Refresh is the data of auth.refresh.
type Refresh struct {
	RefreshToken string `json:"refresh_token"`
}

// Validate returns an *Error when the token is missing or too long.
func (r *Refresh) Validate() error {
	if r.RefreshToken == "" || len(r.RefreshToken) > MaxToken {
		return Errorf(BadData, "refresh_token is missing or too long.")
	}
	return nil
}

// Tokens is the answer to auth.register, login, refresh and issue.
type Tokens struct {
	Token        string        `json:"token"`
	ExpiresAt    Time          `json:"expires_at"`
	RefreshToken string        `json:"refresh_token"`
	User         subjects.User `json:"user"`
}

// Logout is the data of auth.logout; neither field = the session of the caller.
type Logout struct {
	Session string `json:"session,omitempty"`
	All     bool   `json:"all,omitempty"` // every session of the user
}

// Verify is the data of auth.verify, by which an edge learns whose token it was shown. Clients cannot call it.
type Verify struct {
	Token string `json:"token"`
}

// Identity is the answer to auth.verify.
type Identity struct {
	User      subjects.User `json:"user"`
	Session   string        `json:"session"`
	ExpiresAt Time          `json:"expires_at"`
	IssuedAt  Time          `json:"issued_at"`
}

// MaxTogether is the largest number of tokens in one Verifications, and of users in one MembershipsQuery.
const MaxTogether = 64

// Verifications is the data of auth.verify-many, by which an edge learns whose the tokens are that it was shown at the same moment. Clients cannot call it.
type Verifications struct {
	Tokens []string `json:"tokens"` // at most MaxTogether
}

// MaxBytes bounds the encoded tokens. Each may be as long as a token can be.
func (v *Verifications) MaxBytes() int { return MaxTogether * (MaxToken + 8) }

// Validate returns an *Error when there are no or too many tokens.
func (v *Verifications) Validate() error {
	if len(v.Tokens) == 0 || len(v.Tokens) > MaxTogether {
		return Errorf(BadData, "Give 1 to %d tokens.", MaxTogether)
	}
	return nil
}

// Verified is the answer to auth.verify-many: what each token is, in the order of the tokens.
type Verified struct {
	Tokens []VerifiedToken `json:"tokens"`
}

// VerifiedToken is whose one token is, or why it is not good. Where it is neither, auth.verify says it: others shall not wait for what that takes.
type VerifiedToken struct {
	Identity *Identity `json:"identity,omitempty"`
	Error    *Error    `json:"error,omitempty"`
}

// RevocationsQuery is the data of auth.revoked, which edges ask every second so that one who missed an event closes the sockets all the
// same. Clients cannot call it.
type RevocationsQuery struct {
	After uint64 `json:"after"` // the revision of the last answer; 0 = all that still matter
}

// Revocations is the answer to auth.revoked.
type Revocations struct {
	Revision    uint64       `json:"revision"`
	Revocations []Revocation `json:"revocations"`
}

// Revocation ends one session, or all sessions of a user that began before a time.
type Revocation struct {
	User    subjects.User `json:"user"`
	Session string        `json:"session,omitempty"` // one session
	Before  *Time         `json:"before,omitempty"`  // all tokens issued before
}

// Issue is the data of auth.issue, by which an operator makes tokens without a password. Clients cannot call it.
type Issue struct {
	User   subjects.User   `json:"user"`
	Device subjects.Device `json:"device,omitempty"`
	Name   string          `json:"name,omitempty"`
	Create bool            `json:"create,omitempty"` // register the user first where there is none
	TTLMS  int64           `json:"ttl_ms,omitempty"` // lifetime of the token in milliseconds; 0 = the configured one
}

// Validate returns an *Error that names the first field that is wrong.
func (i *Issue) Validate() error {
	if i.User == "" {
		return Errorf(BadData, "user is missing.")
	}
	return validTitle("name", i.Name)
}

// Invite is the data of auth.invite, by which an operator lets people register. Clients cannot call it.
type Invite struct {
	Uses  int   `json:"uses,omitempty"`   // how many may register with it; 0 = one
	TTLMS int64 `json:"ttl_ms,omitempty"` // lifetime in milliseconds; 0 = seven days
}

// Invited is the answer to auth.invite.
type Invited struct {
	Invite    string `json:"invite"`
	ExpiresAt Time   `json:"expires_at"`
}

// Empty is the answer of calls that have nothing to say, and the data of those that need none.
type Empty struct{}
