package standalone

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/confab-im/confab/deploy/edges"
	"github.com/confab-im/confab/deploy/natsconfig"
	"github.com/confab-im/confab/deploy/process"
	"github.com/confab-im/confab/edge"
	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// readyPatience is after how much time of waiting for the functions and the store the log says what is waited for.
const readyPatience = 30 * time.Second

// inviteUses is how many people may register with the link of the banner.
const inviteUses = 10

// banner is what a person who starts confab wants to know.
type banner struct {
	public, owner, invite string
	ops, nats, data       string
	profiles              string // where they are read; empty = nowhere
	viewer                string // the file of the key that looking takes; empty = none
	fast                  bool
}

func (b banner) write(w io.Writer) {
	fmt.Fprintf(w, "\nconfab is ready.\n\n")
	fmt.Fprintf(w, "  Open     %s\n", b.owner)
	fmt.Fprintf(w, "  Invite   %s\n", b.invite)
	fmt.Fprintf(w, "  Data     %s\n", b.data)
	if b.ops != "" {
		fmt.Fprintf(w, "  Health   http://%s/readyz\n", b.ops)
	}
	if b.profiles != "" {
		fmt.Fprintf(w, "  Profile  http://%s/debug/pprof/\n", b.profiles)
	}
	key := ""
	if b.viewer != "" {
		key = " --nkey " + shellWord(b.viewer)
	}
	fmt.Fprintf(w, "  Look     nats -s %s%s micro ls\n", b.nats, key)
	fmt.Fprintf(w, "           nats -s %s%s sub '%s'\n", b.nats, key, subjects.AllLive)
	if b.fast {
		fmt.Fprintf(w, "\n  The profile fast may lose acknowledged messages in a power cut.\n")
	}
	fmt.Fprintf(w, "\nThe first link signs you in, once; the second lets %d others register. Ctrl-C stops everything.\n\n", inviteUses)
}

// greet waits until the edge is ready, makes the links and writes the banner.
func (s *system) greet(ctx context.Context, cancel context.CancelCauseFunc, front *edge.Edge, b banner, out io.Writer) {
	nc, _, err := s.connect(natsconfig.Operator)
	if err != nil {
		cancel(err)
		return
	}
	defer nc.Close()
	caller, err := functions.NewCaller(nc, s.log)
	if err != nil {
		cancel(err)
		return
	}
	defer caller.Close()
	if !s.awaitReady(ctx, front) {
		return
	}
	b.data, b.fast = s.config.Data, s.config.Profile == ProfileFast
	b.nats = s.config.NATS.URL
	if s.server != nil {
		b.nats = s.server.ClientURL()
		if !s.config.NATSLook {
			b.viewer = natsconfig.SeedFile(s.config.keys(), natsconfig.Viewer)
		}
	}
	err = patiently(ctx, func() error {
		b.owner, err = OwnerLink(ctx, caller, b.public, subjects.User(s.config.Owner))
		return err
	})
	if err == nil {
		err = patiently(ctx, func() error { b.invite, err = InviteLink(ctx, caller, b.public, inviteUses, 0); return err })
	}
	if err != nil {
		cancel(fmt.Errorf("make the links of the banner: %w", err))
		return
	}
	b.write(out)
}

// awaitReady waits until the edge can serve clients; false when ctx ends first.
func (s *system) awaitReady(ctx context.Context, front *edge.Edge) bool {
	for {
		within, done := context.WithTimeout(ctx, readyPatience)
		err := edges.WaitReady(within, front)
		done()
		if err == nil || ctx.Err() != nil {
			return err == nil
		}
		s.log.Warn("not ready yet", process.KeyErr, errors.Join(s.stores(), front.Ready()))
	}
}

// patiently repeats what failed for a reason that passes, as while the servers of a cluster agree on leaders, until ctx ends.
func patiently(ctx context.Context, what func() error) error {
	for {
		err := what()
		if code := wire.CodeOf(err); err == nil || code != wire.StorageUnavailable && code != wire.Unavailable && code != wire.Timeout {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// OwnerLink returns a link that signs a user in once, and registers the user first where there is none. What it carries is a refresh token: it is spent by its
// first use, and stands in the fragment, which browsers do not send to servers.
func OwnerLink(ctx context.Context, caller *functions.Caller, public string, user subjects.User) (string, error) {
	tokens, err := functions.Invoke[wire.Issue, wire.Tokens](ctx, caller, nil, "auth", "issue", wire.Issue{User: user, Create: true})
	if err != nil {
		return "", err
	}
	return public + "/#refresh=" + tokens.RefreshToken, nil
}

// InviteLink returns a link with which a number of people may register, for a time; 0 = the time that auth presets.
func InviteLink(ctx context.Context, caller *functions.Caller, public string, uses int, life time.Duration) (string, error) {
	invited, err := functions.Invoke[wire.Invite, wire.Invited](ctx, caller, nil, "auth", "invite", wire.Invite{Uses: uses, TTLMS: life.Milliseconds()})
	if err != nil {
		return "", err
	}
	return public + "/#invite=" + invited.Invite, nil
}

// shellWord returns s as one word of a shell.
func shellWord(s string) string {
	if strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
