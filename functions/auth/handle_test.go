package auth

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/confab-im/confab/subjects"
)

func TestHandles(t *testing.T) {
	isReserved := func(u subjects.User) bool { return slices.Contains(reserved, u) }
	for name, c := range map[string]struct {
		claims claims
		want   string // the first one, without what makes it unique
	}{
		"a username":                       {claims{Username: "ada", Email: "x@y.example", Subject: "1"}, "ada"},
		"upper case, dots and a space":     {claims{Username: "Ada M. Lovelace"}, "ada-m-lovelace"},
		"an address as username":           {claims{Username: "ada@example.org"}, "ada"},
		"an e-mail":                        {claims{Email: "ada.l@example.org", Subject: "1"}, "ada-l"},
		"a sub with a provider":            {claims{Subject: "auth0|5f7c8ec7"}, "5f7c8ec7"},
		"a number":                         {claims{Subject: "1234"}, "user-1234"},
		"nothing that can be kept":         {claims{Username: "愛", Subject: "☃"}, "user"},
		"characters of subjects":           {claims{Username: "*.>.$SYS"}, "sys"},
		"one that is too long":             {claims{Username: strings.Repeat("a", 300)}, strings.Repeat("a", 40)},
		"a reserved name":                  {claims{Username: "admin"}, "admin-"},
		"hyphens and underscores outside":  {claims{Username: "--_ada_--"}, "ada"},
		"a username of nothing, an e-mail": {claims{Username: "@", Email: "bob@x.example"}, "bob"},
	} {
		all := handles(&c.claims, isReserved)
		if got := string(all[0]); got != c.want && !(strings.HasSuffix(c.want, "-") && strings.HasPrefix(got, c.want) && len(got) == len(c.want)+4) {
			if !(name == "characters of subjects" && strings.HasPrefix(got, "sys-")) {
				t.Errorf("%s: %v", name, all)
			}
		}
	}
}

func TestHandlesAreUsers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := claims{
			Issuer: rapid.String().Draw(t, "iss"), Subject: rapid.String().Draw(t, "sub"),
			Username: rapid.String().Draw(t, "username"), Email: rapid.String().Draw(t, "email"),
		}
		all := handles(&c, func(u subjects.User) bool { return slices.Contains(reserved, u) })
		if len(all) < 3 {
			t.Fatalf("only %d handles", len(all))
		}
		for _, u := range all {
			if _, err := subjects.ParseUser(string(u)); err != nil || slices.Contains(reserved, u) {
				t.Fatalf("%q: %v", u, err)
			}
		}
	})
}

func TestIdentitiesOfTwoIssuersDiffer(t *testing.T) {
	if identityID("a", "b") == identityID("a", "c") || identityID("a", "b") == identityID("c", "b") || identityID("ab", "c") == identityID("a", "bc") {
		t.Error("two identities have one id")
	}
}
