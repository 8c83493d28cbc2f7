package process

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/subjects"
)

// NATSConfig says which NATS server a program connects to and as whom.
type NATSConfig struct {
	URL         string `conf:"nats-url" help:"NATS servers, separated by commas"`
	Credentials string `conf:"nats-credentials" help:"file with the credentials of this program"`
	NKey        string `conf:"nats-nkey" help:"file with the NKey seed of this program"`
	CA          string `conf:"nats-ca" help:"file with the certificates that NATS servers are checked against"`
	Inbox       string `conf:"nats-inbox-prefix" help:"what the subjects of answers to this program begin with; empty = _INBOX, or for nats-nkey DIR/NAME.nk, _INBOX_NAME"`

	Violations *Violations // counts what the server refuses; nil = it is logged only
}

// User returns the name of the NATS user that the seed's file is called after, "" without one.
func (c NATSConfig) User() string {
	if c.NKey == "" {
		return ""
	}
	user, _, _ := strings.Cut(filepath.Base(c.NKey), ".")
	return user
}

// inbox returns the prefix of this program's inboxes, "" for that of the client library. With a user of its own a program may read its own
// inboxes only, so the prefix follows the file with the user's seed, which is called after the user.
func (c NATSConfig) inbox() string {
	if user := c.User(); c.Inbox == "" && user != "" {
		return subjects.InboxPrefix(user)
	}
	return c.Inbox
}

// Connect connects to NATS under the given name and keeps reconnecting for as long as the program runs; the returned channel is closed when
// the connection is closed for good, after which the program must end. Options are added to the ones every program uses.
func (c NATSConfig) Connect(name string, log *slog.Logger, extra ...nats.Option) (*nats.Conn, <-chan struct{}, error) {
	closed := make(chan struct{})
	options := append(Options(name, log),
		nats.ClosedHandler(func(*nats.Conn) { close(closed) }),
		nats.ErrorHandler(func(_ *nats.Conn, sub *nats.Subscription, err error) { c.Violations.report(log, sub, err) }),
	)
	if c.Credentials != "" {
		options = append(options, nats.UserCredentials(c.Credentials))
	}
	if c.NKey != "" {
		nkey, err := nats.NkeyOptionFromSeed(c.NKey)
		if err != nil {
			return nil, nil, fmt.Errorf("read nats-nkey: %w", err)
		}
		options = append(options, nkey)
	}
	if c.CA != "" {
		options = append(options, nats.RootCAs(c.CA))
	}
	if prefix := c.inbox(); prefix != "" {
		options = append(options, nats.CustomInboxPrefix(prefix))
	}
	nc, err := nats.Connect(c.URL, append(options, extra...)...)
	if err != nil {
		return nil, nil, fmt.Errorf("connect to NATS at %s: %w", redacted(c.URL), err)
	}
	return nc, closed, nil
}

// ErrClosed ends a program whose connection is closed for good: whoever runs it must start it again.
var ErrClosed = errors.New("the connection to NATS was closed for good")

// WhileConnected returns a context that ends with ctx, or with the cause ErrClosed when the channel that Connect returned is closed. The
// program calls cancel in the end, with what failed or nil.
func WhileConnected(ctx context.Context, closed <-chan struct{}) (context.Context, context.CancelCauseFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		select {
		case <-closed:
			cancel(ErrClosed)
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// Options returns the options of every connection of confab to NATS. A ping interval of 5 s finds a paused server before callers have
// run into their deadlines twice; nothing is buffered while disconnected, since a call that leaves late is worse than one refused.
func Options(name string, log *slog.Logger) []nats.Option {
	return []nats.Option{
		nats.Name(name),
		nats.RetryOnFailedConnect(true),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(100 * time.Millisecond),
		nats.ReconnectJitter(400*time.Millisecond, 400*time.Millisecond),
		nats.PingInterval(5 * time.Second),
		nats.MaxPingsOutstanding(2),
		nats.ReconnectBufSize(-1),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil { // nil: the program closed the connection itself
				log.Warn("disconnected from nats", KeyErr, err)
			}
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) { log.Info("reconnected to nats", "server", nc.ConnectedServerName()) }),
		nats.ErrorHandler(func(_ *nats.Conn, sub *nats.Subscription, err error) { (*Violations)(nil).report(log, sub, err) }),
	}
}

// redacted returns a list of servers without the passwords that may stand in it.
func redacted(list string) string {
	servers := strings.Split(list, ",")
	for i, server := range servers {
		if u, err := url.Parse(server); err == nil {
			servers[i] = u.Redacted()
		} else if _, host, ok := strings.Cut(server, "@"); ok {
			servers[i] = host
		}
	}
	return strings.Join(servers, ",")
}
