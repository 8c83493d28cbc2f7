package wire

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/confab-im/confab/subjects"
)

var hostile = []string{
	"*", ">", "a.b", "", " ", "a\tb", "a\r\n", "a\x00", "$SYS", "$JS.API.STREAM.DELETE.X", "_INBOX.x", "a\u200b", "a\u00a0", "é", strings.Repeat("a", 65), strings.Repeat("a", 5000), "Ada",
}

// TestHostileIDsAreBadIDs puts hostile strings into every id field of every request, whatever else is missing.
func TestHostileIDsAreBadIDs(t *testing.T) {
	fields := map[string]any{
		`{"user":%}`: &Register{}, `{"user": %}`: &Login{}, `{"device":%}`: &Login{}, `{"device": %}`: &Hello{}, `{"device":%} `: &Register{},
		`{"conversation":%}`: &Post{}, `{"to":%}`: &Post{}, `{"client_id":%,"to":"bob"}`: &Post{}, `{"conversation": %}`: &Edit{}, `{"client_id":%,"conversation":"g.a"}`: &Edit{},
		`{"conversation":% }`: &Recall{}, `{"client_id":%,"conversation":"g.a"} `: &Recall{}, `{ "conversation":%}`: &React{}, ` {"client_id":%,"conversation":"g.a","emoji":"x"}`: &React{},
		`{"conversation" :%}`: &PageQuery{}, `{"after":%}`: &HeadsQuery{}, ` {"conversation":%}`: &ConversationQuery{}, ` {"conversation": %}`: &Update{},
		` {"conversation":% }`: &MembersQuery{}, `{"after": %,"conversation":"g.a"}`: &MembersQuery{}, ` { "conversation":%}`: &MemberUpdate{}, `{"user":% }`: &MemberUpdate{},
		`{"members":[%],"kind":"group"}`: &Create{}, `{"kind":"group","title":"x","id":%}`: &Create{}, `{"kind":"channel","title":"x","id":%}`: &Create{},
		`{"conversation":% } `: &MarkQuery{}, `{"conversation": %} `: &ReadersQuery{}, `{"users":["ada",%]}`: &UsersQuery{}, `{"conversation":%,"kind":"typing"}`: &Signal{},
		`{"heads":{%:1}}`: &HeadCheck{}, `{"conversation":%,"after":1}`: &FillQuery{}, `{"user":%} `: &UserQuery{}, ` {"user":%}`: &Issue{},
	}
	for template, v := range fields {
		for _, s := range hostile {
			if s == "a.b" && strings.Contains(template, "conversation") {
				s = "g.a.b"
			}
			text, _ := json.Marshal(s)
			fresh := reflect.New(reflect.TypeOf(v).Elem()).Interface()
			data := strings.Replace(template, "%", string(text), 1)
			err := Decode([]byte(data), fresh)
			clientID := strings.Contains(template, `"client_id":%`)
			if clientID && (s == "Ada") { // client ids may hold capitals
				continue
			}
			if CodeOf(err) != BadID {
				t.Errorf("%T %.80s: %v", v, data, err)
			}
		}
	}
}

func TestOtherSpellingsOfAFieldAreRefused(t *testing.T) {
	for _, text := range []string{
		`{"User":"ada","password":"x"}`, `{"USER":"eve","user":"ada","password":"x"}`, `{"u\u017fer":"eve","user":"ada","password":"x"}`, `{"uſer":"eve"}`, `{"pa\u017f\u017fword":"x"}`,
	} {
		var login Login
		if err := Decode([]byte(text), &login); CodeOf(err) != BadFrame {
			t.Errorf("%s: %v, %+v", text, err, login)
		}
	}
	var update Update
	if err := Decode([]byte(`{"conversation":"g.a","policy":{"History":"start"}}`), &update); CodeOf(err) != BadFrame {
		t.Errorf("below: %v", err)
	}
	var post Post
	if err := Decode([]byte(`{"conversation":"g.a","client_id":"1","body":{"Text":"x","text":"y","TEXT":"z"}}`), &post); err != nil {
		t.Errorf("in a body, which belongs to the clients: %v", err)
	}
}

func TestDecodeNamesTheFieldThatIsWrong(t *testing.T) {
	for _, c := range []struct {
		data  string
		into  any
		code  Code
		names string
	}{
		{`{"conversation":"g.a","client_id":7,"body":{}}`, &Post{}, BadData, "client_id"},
		{`{"conversation":"g.a","body":{}}`, &Post{}, BadData, "client_id"},
		{`{"conversation":"g.a","client_id":"1"}`, &Post{}, BadData, "body"},
		{`{"conversation":"g.a","client_id":"1","body":"text"}`, &Post{}, BadData, "body"},
		{`{"conversation":"g.a","client_id":"1","body":null}`, &Post{}, BadData, "body"},
		{`{"conversation":"g.a","to":"ada","client_id":"1","body":{}}`, &Post{}, BadData, "to"},
		{`{"client_id":"1","body":{}}`, &Post{}, BadData, "conversation"},
		{`{"conversation":"g.a","client_id":"1","body":{},"reply_to":"1"}`, &Post{}, BadData, "seq"},
		{`{"conversation":"g.a","client_id":"1","body":{},"reply_to":1.5}`, &Post{}, BadData, "seq"},
		{`{"conversation":"g.a","seq":1,"client_id":"1"}`, &React{}, BadData, "emoji"},
		{`{"conversation":"g.a","before":1,"after":2}`, &PageQuery{}, BadData, "before"},
		{`{"conversation":"g.a","at":"yesterday"}`, &PageQuery{}, BadData, "RFC 3339"},
		{`{"kind":"direct","title":"x"}`, &Create{}, BadData, "kind"},
		{`{"kind":"group","title":"` + strings.Repeat("x", 201) + `"}`, &Create{}, BadData, "title"},
		{`{"conversation":"g.a"}`, &Update{}, BadData, "title"},
		{`{"conversation":"g.a","policy":{"history":"all"}}`, &Update{}, BadData, "history"},
		{`{"conversation":"g.a","user":"ada","role":"king"}`, &MemberUpdate{}, BadData, "role"},
		{`{"state":"offline"}`, &PresenceSetting{}, BadData, "state"},
		{`{"users":[]}`, &UsersQuery{}, BadData, "users"},
		{`{"user":"ada","password":"short"}`, &Register{}, BadData, "password"},
		{`{"user":"ada"}`, &Login{}, BadData, "password"},
		{`{}`, &Refresh{}, BadData, "refresh_token"},
		{`[]`, &Login{}, BadData, "object"},
		{`null`, &Login{}, BadData, "object"},
		{``, &ConversationQuery{}, BadData, "conversation"},
	} {
		err := Decode([]byte(c.data), c.into)
		if CodeOf(err) != c.code || !strings.Contains(err.Error(), c.names) {
			t.Errorf("%T %s: %v", c.into, c.data, err)
		}
	}
}

func TestTextsOfOneLineHoldNoControlCharacters(t *testing.T) {
	for _, hostile := range []string{"a\x00", "\x1b[31mred", "a\nb", "a\rb", "\x7f", "a\u0085b", "a\u009b1m", "a\u2028b", "a\u2029b"} {
		text, _ := Marshal(hostile)
		for data, into := range map[string]any{
			`{"user":"ada","password":"long enough","name":%s}`:         &Register{},
			`{"user":"ada","name":%s}`:                                  &Issue{},
			`{"kind":"group","title":%s}`:                               &Create{},
			`{"conversation":"g.a","title":%s}`:                         &Update{},
			`{"conversation":"g.a","seq":1,"client_id":"1","emoji":%s}`: &React{},
			`{"conversation":"g.a","kind":%s}`:                          &Signal{},
			`{"state":"online","status":%s}`:                            &PresenceSetting{},
		} {
			if err := Decode([]byte(strings.Replace(data, "%s", string(text), 1)), into); CodeOf(err) != BadData {
				t.Errorf("%T with %q: %v", into, hostile, err)
			}
		}
	}
	// What people write in many languages passes: joiners, marks of direction, spaces of their own.
	for _, fine := range []string{"", "👩‍👩‍👧", "شب\u200cها", "a\u00a0b", "שלום\u200f!"} {
		if err := (&Create{Kind: subjects.KindGroup, Title: fine}).Validate(); err != nil {
			t.Errorf("%q: %v", fine, err)
		}
	}
	if !IsLine("ok") || IsLine("\xff") {
		t.Error("bytes that are no UTF-8 count as a line")
	}
}

func TestSixteenKibibytesAreEnoughAndNoMore(t *testing.T) {
	body := func(n int) string { return `{"text":"` + strings.Repeat("x", n-11) + `"}` }
	long := strings.Repeat("a", subjects.MaxIDLength)
	data := func(n int) []byte {
		return []byte(`{"conversation":"d.` + long[1:] + `.` + long + `","client_id":"` + strings.Repeat("c", MaxClientID) + `","reply_to":9007199254740991,"body":` + body(n) + `}`)
	}
	if err := Decode(data(MaxBody), &Post{}); err != nil {
		t.Errorf("the largest body: %v", err)
	}
	for _, v := range []any{&Post{}, &Edit{}} {
		if err := Decode(data(MaxBody+1), v); CodeOf(err) != TooLarge {
			t.Errorf("one byte more in %T: %v", v, err)
		}
	}
	if err := Decode(data(MaxData), &Post{}); CodeOf(err) != TooLarge {
		t.Errorf("too much data: %v", err)
	}
	frame, err := ParseFrame([]byte(`{"id":"x","call":"send.post","data":` + string(data(MaxData)) + `}`))
	if CodeOf(err) != TooLarge || string(frame.ID) != `"x"` || frame.Call != "send.post" {
		t.Errorf("%v with id %s of %s", err, frame.ID, frame.Call)
	}
	check := HeadCheck{Heads: map[subjects.Conversation]Seq{}}
	for i := range MaxChecked {
		check.Heads[subjects.Conversation("d."+long[4:]+string(rune('a'+i/26/26))+string(rune('a'+i/26%26))+string(rune('a'+i%26))+".b"+long[1:])] = MaxSeq
	}
	encoded, _ := json.Marshal(check)
	if err := Decode(encoded, &HeadCheck{}); err != nil {
		t.Errorf("the largest check, %d bytes: %v", len(encoded), err)
	}
}

func TestMarshalKeepsWhatTheClientSent(t *testing.T) {
	entry := Entry{Conversation: "g.a", Seq: 1, Kind: KindMessage, From: "ada", At: At(time.Unix(0, 0)), Body: json.RawMessage(`{"text":"<b>&\u2028 \ud83d\ude00</b>"}`)}
	data, err := Marshal(entry)
	if err != nil || !bytes.Contains(data, entry.Body) || bytes.HasSuffix(data, []byte("\n")) {
		t.Errorf("%s, %v", data, err)
	}
	if _, err := Marshal(func() {}); err == nil {
		t.Error("a function was marshalled")
	}
}

func TestLanesAreConversations(t *testing.T) {
	for want, request := range map[string]interface{ Lane(subjects.User) string }{
		"g.1": &Post{Conversation: "g.1"}, "d.ada.bob": &Post{To: "bob"}, "g.2": &Edit{Conversation: "g.2"}, "g.3": &Recall{Conversation: "g.3"}, "g.4": &React{Conversation: "g.4"},
		"g.5": &Append{Conversation: "g.5"}, "g.6": &MarkQuery{Conversation: "g.6"}, "g.7": &Create{Kind: subjects.KindGroup, ID: "7"}, "": &Create{Kind: subjects.KindGroup},
		"g.8": &ConversationQuery{Conversation: "g.8"}, "g.9": &Update{Conversation: "g.9"}, "g.10": &MemberUpdate{Conversation: "g.10"},
	} {
		if got := request.Lane("ada"); got != want {
			t.Errorf("%T is in lane %q instead of %q", request, got, want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, text := range notStrict {
		f.Add([]byte(text))
	}
	f.Add([]byte(`{"conversation":"g.a","client_id":"1","body":{"text":"hi"},"reply_to":3}`))
	f.Add([]byte(`{"kind":"group","id":"a","title":"t","members":["ada"],"policy":{"history":"start"}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, v := range []any{&Post{}, &Create{}, &PageQuery{}, &Update{}, &HeadCheck{}, &Login{}, &UsersQuery{}} {
			err := Decode(data, v)
			if err != nil && !CodeOf(err).Known() || CodeOf(err) == Internal {
				t.Fatalf("%T %q: %v", v, data, err)
			}
			if post, ok := v.(*Post); ok && err == nil {
				if _, bad := subjects.ParseConversation(string(post.Conversation)); bad != nil && post.Conversation != "" {
					t.Fatalf("%q decoded to the conversation %q", data, post.Conversation)
				}
				again, err := Marshal(post)
				if err != nil || Decode(again, &Post{}) != nil {
					t.Fatalf("%q became %q, %v", data, again, err)
				}
			}
		}
	})
}
