package edge

import (
	"context"
	"encoding/json"
	"strings"

	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// The methods that answer for many who come at the same moment. Instances of an earlier release do not have them; those are asked for each.
const (
	methodVerifyMany  subjects.Method = "verify-many"
	methodMemberships subjects.Method = "memberships"
	methodHeadsOf     subjects.Method = "heads-of"
)

// mostPlaced is how many conversations that are not followed yet somebody may bring who is placed together with others.
const mostPlaced = 64

// arrivals is what is asked for those who sign in, for many at once.
type arrivals struct {
	tokens      together[string, wire.VerifiedToken]
	memberships together[subjects.User, *[]wire.Membership] // nil where the user has to be asked for alone
	heads       together[[]subjects.Conversation, map[subjects.Conversation]wire.Seq]
	lists       together[headsCall, []byte] // nil where the user has to be asked for alone
}

func (e *Edge) newArrivals() arrivals {
	return arrivals{
		tokens:      together[string, wire.VerifiedToken]{edge: e, function: funcAuth, most: wire.MaxTogether, call: e.verifyMany},
		memberships: together[subjects.User, *[]wire.Membership]{edge: e, function: funcConversations, most: wire.MaxTogether, call: e.membershipsOf},
		heads:       together[[]subjects.Conversation, map[subjects.Conversation]wire.Seq]{edge: e, function: funcHistory, most: wire.MaxTogether, call: e.headsOf},
		lists:       together[headsCall, []byte]{edge: e, function: funcHistory, most: wire.MaxTogether, call: e.listsOf},
	}
}

// identityOf asks auth whose a token is.
func (e *Edge) identityOf(ctx context.Context, token string) (wire.Identity, error) {
	if _, known := e.caller.Method(funcAuth, methodVerifyMany); known && isPlain(token) {
		switch found, err := e.arrivals.tokens.ask(ctx, token); {
		case err != nil:
			return wire.Identity{}, err
		case found.Error != nil && !found.Error.Code.Known():
			return wire.Identity{}, asWireError(nil)
		case found.Error != nil:
			return wire.Identity{}, found.Error
		case found.Identity != nil:
			return *found.Identity, nil
		}
	}
	return functions.Invoke[wire.Verify, wire.Identity](ctx, e.caller, nil, funcAuth, "verify", wire.Verify{Token: token})
}

// isPlain reports whether a token consists of what tokens consist of: others are refused, and would be longer encoded than they are, at the cost of those who are asked for with them.
func isPlain(token string) bool {
	return strings.IndexFunc(token, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_' && r != '.'
	}) < 0
}

func (e *Edge) verifyMany(ctx context.Context, tokens []string) ([]wire.VerifiedToken, error) {
	ctx, cancel := context.WithTimeout(ctx, verifyWithin)
	defer cancel()
	answer, err := functions.Invoke[wire.Verifications, wire.Verified](ctx, e.caller, nil, funcAuth, methodVerifyMany, wire.Verifications{Tokens: tokens})
	return answer.Tokens, err
}

// membershipsFor asks what to deliver to a user.
func (e *Edge) membershipsFor(ctx context.Context, u subjects.User) ([]wire.Membership, error) {
	if _, known := e.caller.Method(funcConversations, methodMemberships); known {
		if found, err := e.arrivals.memberships.ask(ctx, u); err != nil {
			return nil, err
		} else if found != nil {
			return *found, nil
		}
	}
	mine, err := functions.Invoke[wire.UserQuery, wire.Memberships](ctx, e.caller, nil, funcConversations, "mine", wire.UserQuery{User: u})
	return mine.Memberships, err
}

func (e *Edge) membershipsOf(ctx context.Context, users []subjects.User) ([]*[]wire.Membership, error) {
	ctx, cancel := context.WithTimeout(ctx, loadWithin)
	defer cancel()
	answer, err := functions.Invoke[wire.MembershipsQuery, wire.MembershipsOf](ctx, e.caller, nil, funcConversations, methodMemberships, wire.MembershipsQuery{Users: users})
	found := make([]*[]wire.Membership, len(users))
	for i, u := range users {
		if list, ok := answer.Users[u]; ok {
			found[i] = &list
		}
	}
	return found, err
}

// headsFor asks where conversations stand, after the server has the subscriptions to them.
func (e *Edge) headsFor(ctx context.Context, ids []subjects.Conversation) (map[subjects.Conversation]wire.Seq, error) {
	if len(ids) <= mostPlaced {
		return e.arrivals.heads.ask(ctx, ids)
	}
	found, err := e.headsOf(ctx, [][]subjects.Conversation{ids})
	if err != nil {
		return nil, err
	}
	return found[0], nil
}

// headsOf answers all with the heads of all.
func (e *Edge) headsOf(ctx context.Context, lists [][]subjects.Conversation) ([]map[subjects.Conversation]wire.Seq, error) {
	ctx, cancel := context.WithTimeout(ctx, loadWithin)
	defer cancel()
	if err := e.cfg.NATS.FlushWithContext(ctx); err != nil {
		return nil, errNoNATS
	}
	heads := map[subjects.Conversation]wire.Seq{}
	check := wire.HeadCheck{Heads: map[subjects.Conversation]wire.Seq{}}
	ask := func() error {
		answer, err := e.check(ctx, check)
		for id := range check.Heads {
			heads[id] = answer.Heads[id]
		}
		clear(check.Heads)
		return err
	}
	for _, ids := range lists {
		for _, id := range ids {
			if _, asked := heads[id]; !asked {
				check.Heads[id] = 0
			}
			if len(check.Heads) == wire.MaxChecked {
				if err := ask(); err != nil {
					return nil, err
				}
			}
		}
	}
	if len(check.Heads) > 0 {
		if err := ask(); err != nil {
			return nil, err
		}
	}
	found := make([]map[subjects.Conversation]wire.Seq, len(lists))
	for i := range found {
		found[i] = heads
	}
	return found, nil
}

// headsCall is a call of history.heads, and who makes it.
type headsCall struct {
	call *call
	from functions.Call
}

// listFor asks for the list of a user's conversations: with those of others who ask at the same moment, unless it may be long.
func (e *Edge) listFor(ctx context.Context, c *call, from functions.Call) ([]byte, error) {
	var query wire.HeadsQuery
	_, known := e.caller.Method(funcHistory, methodHeadsOf)
	if known && wire.Decode(c.data, &query) == nil && query.After == "" && query.Limit >= wire.MaxHeadsTogether && c.session.user.joins() <= wire.MaxHeadsTogether {
		if answer, err := e.arrivals.lists.ask(ctx, headsCall{c, from}); err != nil || answer != nil {
			return answer, err
		}
	}
	return e.forward(ctx, c.name, from, functions.NewTrace(), c.data, c.begun)
}

// headsOfMany is wire.HeadsOf with the answers as they are handed on.
type headsOfMany struct {
	Users map[subjects.User]json.RawMessage `json:"users"`
}

// listsOf answers calls of history.heads.
func (e *Edge) listsOf(ctx context.Context, calls []headsCall) ([][]byte, error) {
	if len(calls) == 1 {
		one := calls[0]
		answer, err := e.forward(ctx, one.call.name, one.from, functions.NewTrace(), one.call.data, one.call.begun)
		return [][]byte{answer}, err
	}
	if _, err := e.public(ctx, funcHistory, "heads"); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, loadWithin)
	defer cancel()
	query := wire.HeadsOfQuery{Users: make([]subjects.User, len(calls))}
	for i, c := range calls {
		query.Users[i] = c.from.User
	}
	answer, err := functions.Invoke[wire.HeadsOfQuery, headsOfMany](ctx, e.caller, nil, funcHistory, methodHeadsOf, query)
	found := make([][]byte, len(calls))
	for i, u := range query.Users {
		found[i] = answer.Users[u]
	}
	return found, err
}
