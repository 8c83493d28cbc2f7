package auth

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"strings"
	"sync"

	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// maxIdentities bounds the handles of foreign identities that an instance remembers; it forgets all of them beyond it.
const maxIdentities = 1 << 14

// identities remembers the handles of foreign identities. They never change, so they are never wrong. mu guards handles.
type identities struct {
	mu      sync.Mutex
	handles map[string]subjects.User
}

func (i *identities) get(id string) (subjects.User, bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	user, ok := i.handles[id]
	return user, ok
}

func (i *identities) put(id string, user subjects.User) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.handles == nil || len(i.handles) >= maxIdentities {
		i.handles = map[string]subjects.User{}
	}
	i.handles[id] = user
}

// foreignUser returns the handle of whom an outside issuer's token speaks of. The first time it makes an account without a password, which no
// handle of somebody else is ever taken for, and enrols it.
func (s *service) foreignUser(ctx context.Context, call *functions.Call, c *claims) (subjects.User, error) {
	id := identityID(c.Issuer, c.Subject)
	if user, ok := s.identities.get(id); ok {
		return user, nil
	}
	user, err := s.store.IdentityUser(ctx, c.Issuer, c.Subject)
	if errors.Is(err, jetstream.ErrNotFound) {
		user, err = s.adopt(ctx, call, c, id)
	}
	if err != nil {
		return "", stored(err)
	}
	s.identities.put(id, user)
	return user, nil
}

// adopt makes the account of a new identity, and then maps the identity to it. Each step can be repeated, also by several instances at once.
func (s *service) adopt(ctx context.Context, call *functions.Call, c *claims, id string) (subjects.User, error) {
	for _, handle := range handles(c, s.isReserved) {
		profile, err := s.createMarked(ctx, handle, shownName(c), markIdentity+id)
		if errors.Is(err, errTaken) {
			continue
		}
		if err != nil {
			return "", err
		}
		user, err := s.store.MapIdentity(ctx, jetstream.Identity{Issuer: c.Issuer, Subject: c.Subject, User: handle})
		if err != nil {
			return "", err
		}
		s.log.InfoContext(ctx, "identity of an issuer adopted", slog.String("user", string(user)), slog.String("issuer", c.Issuer))
		s.enrol(ctx, call, profile)
		return user, nil
	}
	return "", errTaken
}

// shownName returns what an issuer calls its user, as far as a name may be.
func shownName(c *claims) string {
	name := strings.ToValidUTF8(c.Username[:min(len(c.Username), wire.MaxTitle)], "")
	if !wire.IsLine(name) {
		return "" // nobody may choose such a name, here or elsewhere
	}
	return name
}

// foreignSession names the session of an outside issuer's token: its sid where it has one, so that all tokens of a sign-in end together,
// otherwise the token itself.
func foreignSession(c *claims) string {
	switch {
	case c.Session != "":
		return outsideSession + digest(c.Issuer, c.Subject, "sid", c.Session)
	case c.ID != "":
		return outsideSession + digest(c.Issuer, c.Subject, "jti", c.ID)
	}
	return outsideSession + digest(c.Issuer, c.Subject, "iat", strconv.FormatInt(c.Issued.UnixMilli(), 10))
}
