package auth

import (
	"crypto/sha256"
	"encoding/base32"
	"slices"
	"strconv"
	"strings"

	"github.com/confab-im/confab/subjects"
)

// reserved are names that a person could be deceived with, or that stand for something else in addresses and mentions.
var reserved = []subjects.User{
	"abuse", "admin", "administrator", "all", "anonymous", "api", "auth", "bot", "channel", "confab", "deleted", "everyone", "help", "here",
	"hostmaster", "info", "me", "mod", "moderator", "nobody", "noreply", "null", "official", "operator", "owner", "postmaster", "root", "security",
	"self", "server", "service", "staff", "support", "sys", "system", "undefined", "unknown", "webmaster", "www",
}

// maxDerived leaves room for what makes a derived handle unique.
const maxDerived = 40

// identityID names a foreign identity by a hash, since what an issuer calls its users may be of any form and length.
func identityID(issuer, subject string) string { return digest(issuer, subject) }

// digest returns 26 characters of [a-z2-7] that stand for the parts, none of which may hold NUL but the last.
func digest(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:16]))
}

// handles returns the handles to try for a foreign identity, in order: one that a person recognises, then the same made unique by the
// identity itself. Every instance finds the same ones, so that two that see a new identity at once end with one account.
func handles(c *claims, isReserved func(subjects.User) bool) []subjects.User {
	base := ""
	for _, hint := range []string{c.Username, c.Email, c.Subject} {
		if base = derive(hint); base != "" {
			break
		}
	}
	if base == "" {
		base = "user"
	}
	id := identityID(c.Issuer, c.Subject)
	all := []subjects.User{subjects.User(base)}
	for _, n := range []int{4, 8, 16} {
		all = append(all, subjects.User(base+"-"+id[:n]))
	}
	return slices.DeleteFunc(all, isReserved)
}

// derive makes a handle of a name, an e-mail address or an issuer's sub; "" when nothing of it can be kept.
func derive(hint string) string {
	hint, _, _ = strings.Cut(hint, "@")
	if _, after, ok := strings.Cut(hint, "|"); ok {
		hint = after // provider|id
	}
	var b strings.Builder
	for _, r := range strings.ToLower(hint) {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '_':
			b.WriteRune(r)
		case b.Len() > 0 && !strings.HasSuffix(b.String(), "-"):
			b.WriteByte('-')
		}
		if b.Len() >= maxDerived {
			break
		}
	}
	base := strings.Trim(b.String(), "-_")
	if _, err := strconv.ParseUint(base, 10, 64); err == nil {
		return "user-" + base // a bare number looks like an id of something else
	}
	return base
}
