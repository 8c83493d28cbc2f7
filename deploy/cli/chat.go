package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/confab-im/confab/deploy/process"
	"github.com/confab-im/confab/edge/client"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// chatConfig says where the terminal client connects and as whom.
type chatConfig struct {
	URL      string        `conf:"url" help:"the server"`
	User     string        `conf:"user" help:"who signs in with a password"`
	Password string        `conf:"password" help:"the password; better set as CONFAB_PASSWORD or typed when asked, since others on this machine can see flags"`
	Token    string        `conf:"token" help:"a token, such as confab token prints, in place of user and password"`
	Register bool          `conf:"register" help:"register the user first"`
	Invite   string        `conf:"invite" help:"the invite to register with"`
	Device   string        `conf:"device" help:"name of this terminal; a second one of the same name takes over"`
	Limit    int           `conf:"limit" help:"how many entries history and follow show from the past"`
	Wait     time.Duration `conf:"wait" help:"how long to wait for the server"`
}

const chatUsage = `
What stands behind the flags:
  list                         the conversations and how much in them is unread
  send CONVERSATION TEXT...    send a message; @user is the direct conversation with a user
  history CONVERSATION         show the newest entries
  follow CONVERSATION          show entries as they come, and send each line that is typed
`

// chat is the terminal client.
func chat(ctx context.Context, c call) error {
	config := chatConfig{URL: "http://127.0.0.1:8080", Device: "terminal-1", Limit: 20, Wait: 15 * time.Second}
	rest, err := c.load("chat", &config)
	if errors.Is(err, process.ErrHelp) {
		_, err = fmt.Fprint(c.out, chatUsage)
	}
	if err != nil || rest == nil {
		return err
	}
	actions := map[string]func(context.Context, *client.Client, []string) error{
		"list": func(ctx context.Context, session *client.Client, _ []string) error { return list(ctx, session, c.out) },
		"send": func(ctx context.Context, s *client.Client, args []string) error { return sendText(ctx, s, c.out, args) },
		"history": func(ctx context.Context, s *client.Client, args []string) error {
			return newest(ctx, s, c.out, config.Limit, args)
		},
		"follow": func(ctx context.Context, s *client.Client, args []string) error {
			return follow(ctx, s, c, config.Limit, args)
		},
	}
	if len(rest) == 0 || actions[rest[0]] == nil {
		return &process.UsageError{Err: fmt.Errorf("say what to do behind the flags: list, send, history or follow; confab chat --help explains")}
	}
	if rest[0] != "list" && len(rest) < 2 {
		return &process.UsageError{Err: fmt.Errorf("%s needs a conversation, such as g.general or @ada", rest[0])}
	}
	dialing, cancel := context.WithTimeout(ctx, config.Wait)
	session, err := config.dial(dialing, c)
	cancel()
	if err != nil {
		return err
	}
	defer func() { _ = session.Close() }()
	return actions[rest[0]](ctx, session, rest[1:])
}

// dial signs in.
func (config chatConfig) dial(ctx context.Context, c call) (*client.Client, error) {
	device, err := subjects.ParseDevice(config.Device)
	if err != nil {
		return nil, &process.UsageError{Err: fmt.Errorf("--device: %w", err)}
	}
	if config.Token != "" {
		return client.Dial(ctx, config.URL, client.WithToken(config.Token), client.WithDevice(device))
	}
	user, err := subjects.ParseUser(config.User)
	if err != nil {
		return nil, &process.UsageError{Err: fmt.Errorf("give --user or --token: %w", err)}
	}
	if config.Password == "" {
		if config.Password, err = askPassword(c.note, user); err != nil {
			return nil, err
		}
	}
	if config.Register {
		in := wire.Register{User: user, Password: config.Password, Invite: config.Invite, Device: device}
		tokens, err := client.Register(ctx, config.URL, in)
		if err != nil {
			return nil, err
		}
		return client.Dial(ctx, config.URL, client.WithTokens(tokens), client.WithDevice(device))
	}
	return client.Dial(ctx, config.URL, client.WithPassword(user, config.Password), client.WithDevice(device))
}

func askPassword(note io.Writer, user subjects.User) (string, error) {
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		return "", &process.UsageError{Err: errors.New("set CONFAB_PASSWORD, or give --token")}
	}
	fmt.Fprintf(note, "Password of %s: ", user)
	password, err := term.ReadPassword(int(os.Stdin.Fd()))
	fmt.Fprintln(note)
	return string(password), err
}

// parsePlace reads a conversation, or @user for the direct conversation with a user.
func parsePlace(session *client.Client, text string) (subjects.Conversation, error) {
	if peer, ok := strings.CutPrefix(text, "@"); ok {
		user, err := subjects.ParseUser(peer)
		if err != nil {
			return "", &process.UsageError{Err: err}
		}
		return subjects.Direct(session.User(), user)
	}
	conversation, err := subjects.ParseConversation(text)
	if err != nil {
		return "", &process.UsageError{Err: fmt.Errorf("%w; write g.general for a group, c.news for a channel, @ada for a user", err)}
	}
	return conversation, nil
}

func list(ctx context.Context, session *client.Client, out io.Writer) error {
	query := wire.HeadsQuery{}
	for {
		heads, err := session.Heads(ctx, query)
		if err != nil {
			return err
		}
		for _, head := range heads.Conversations {
			fmt.Fprintf(out, "%-40s %6d unread  %s\n", head.Conversation, head.Unread, inert(head.Title))
		}
		if query.After = heads.Next; heads.Next == "" {
			return nil
		}
	}
}

func sendText(ctx context.Context, session *client.Client, out io.Writer, args []string) error {
	if len(args) < 2 {
		return &process.UsageError{Err: errors.New("send needs a conversation and a text")}
	}
	conversation, err := parsePlace(session, args[0])
	if err != nil {
		return err
	}
	posted, err := post(ctx, session, conversation, strings.Join(args[1:], " "))
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "stored as entry %d of %s\n", posted.Seq, posted.Conversation)
	return err
}

func post(ctx context.Context, session *client.Client, conversation subjects.Conversation, text string) (wire.Posted, error) {
	body, err := json.Marshal(map[string]string{"text": text})
	if err != nil {
		return wire.Posted{}, err
	}
	return session.Post(ctx, wire.Post{Conversation: conversation, Body: body})
}

func newest(ctx context.Context, session *client.Client, out io.Writer, limit int, args []string) error {
	conversation, err := parsePlace(session, args[0])
	if err != nil {
		return err
	}
	_, err = printPage(ctx, session, out, conversation, limit)
	return err
}

// printPage prints the newest entries and returns the seq of the last.
func printPage(ctx context.Context, session *client.Client, out io.Writer, conversation subjects.Conversation, limit int) (wire.Seq, error) {
	page, err := session.Page(ctx, wire.PageQuery{Conversation: conversation, Limit: limit})
	if err != nil {
		return 0, err
	}
	for _, raw := range page.Entries {
		var entry wire.Entry
		if err := json.Unmarshal(raw, &entry); err != nil {
			return 0, fmt.Errorf("read an entry: %w", err)
		}
		printEntry(out, entry)
	}
	return page.Last, nil
}

// follow prints entries as they come and sends the lines of its input until that or ctx ends.
func follow(ctx context.Context, session *client.Client, c call, limit int, args []string) error {
	conversation, err := parsePlace(session, args[0])
	if err != nil {
		return err
	}
	last, err := printPage(ctx, session, c.out, conversation, limit)
	if err != nil && wire.CodeOf(err) != wire.NotFound { // a direct conversation begins with its first message
		return err
	}
	view, err := session.Follow(conversation, last)
	if err != nil {
		return err
	}
	defer view.Close()
	asked := ctx // ends when the user wants the end
	ctx, cancel := context.WithCancelCause(ctx)
	go func() { cancel(sendLines(ctx, session, conversation, c.in)) }() // ends with the process: a read cannot be broken off
	for entry, err := range view.All(ctx) {
		if err != nil {
			if cause := context.Cause(ctx); asked.Err() != nil || errors.Is(cause, io.EOF) {
				return nil
			} else if cause != nil {
				return cause
			}
			return err
		}
		printEntry(c.out, entry)
	}
	return nil
}

// sendLines sends each line of the input; at the end of a terminal's input it returns io.EOF, and of another's it waits for ctx, so that
// a pipe or a background job can follow without an input.
func sendLines(ctx context.Context, session *client.Client, conversation subjects.Conversation, in io.Reader) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, wire.MaxBody)
	for lines.Scan() {
		if text := strings.TrimSpace(lines.Text()); text != "" {
			if _, err := post(ctx, session, conversation, text); err != nil {
				return err
			}
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	if file, ok := in.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		return io.EOF
	}
	<-ctx.Done()
	return ctx.Err()
}

// printEntry prints one entry in a line.
func printEntry(out io.Writer, e wire.Entry) {
	var body struct {
		Text   string            `json:"text"`
		User   subjects.User     `json:"user"`
		Change wire.MemberChange `json:"change"`
		Emoji  string            `json:"emoji"`
	}
	_ = json.Unmarshal(e.Body, &body) // a body of another form prints without a text
	what := inert(body.Text)
	switch {
	case e.Recalled:
		what = "(recalled)"
	case e.Kind == wire.KindMember:
		what = fmt.Sprintf("* %s %s", body.User, body.Change)
	case e.Kind == wire.KindReaction:
		what = fmt.Sprintf("* %s to %d", inert(body.Emoji), e.Target)
	case e.Kind != wire.KindMessage:
		what = fmt.Sprintf("* %s of %d %s", e.Kind, e.Target, what)
	case e.EditedAt != nil:
		what += " (edited)"
	}
	if len(e.Reactions) > 0 {
		var emojis []string
		for emoji, users := range e.Reactions {
			emojis = append(emojis, fmt.Sprintf("%s %d", inert(emoji), len(users)))
		}
		slices.Sort(emojis)
		what += "  [" + strings.Join(emojis, ", ") + "]"
	}
	fmt.Fprintf(out, "%5d  %s  %-12s %s\n", e.Seq, e.At.Local().Format("15:04:05"), e.From, what)
}

// inert returns what somebody else wrote without what a terminal would act on: control characters and marks that turn the direction of text.
func inert(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case r < 0x20 || r >= 0x7f && r < 0xa0, r >= 0x202a && r <= 0x202e, r >= 0x2066 && r <= 0x2069:
			return -1
		}
		return r
	}, text)
}
