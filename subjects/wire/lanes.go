package wire

import "github.com/confab-im/confab/subjects"

// The Lane methods below say which requests must keep their order: those of one lane are worked on one after another inside an instance,
// all others side by side. The lane is the conversation, which may depend on who calls; an empty
// lane keeps no order.

// Lane returns the conversation that the call's data names, also as a user to write to; "" where it names none, or one that is none: then the function
// says so. ParseFrame must have read the frame, and its line still be whole.
func (f *Frame) Lane(from subjects.User) string {
	n := &f.names
	if n.odd {
		return ""
	}
	var conversation subjects.Conversation
	var err error
	if n.conversation != nil {
		if conversation, err = subjects.ParseConversation(string(n.conversation)); err != nil {
			return ""
		}
	}
	if n.to != nil {
		to, err := subjects.ParseUser(string(n.to))
		if err != nil {
			return ""
		}
		if n.conversation == nil {
			conversation, _ = subjects.Direct(from, to) // "" for a post to oneself, which is refused later
		}
	}
	return string(conversation)
}

// Lane returns the conversation, also where the post names the user whom it is to.
func (p *Post) Lane(from subjects.User) string {
	if p.To == "" {
		return string(p.Conversation)
	}
	direct, err := subjects.Direct(from, p.To)
	if err != nil {
		return "" // refused later: nobody posts to oneself
	}
	return string(direct)
}

// Lane returns the conversation.
func (e *Edit) Lane(subjects.User) string { return string(e.Conversation) }

// Lane returns the conversation.
func (r *Recall) Lane(subjects.User) string { return string(r.Conversation) }

// Lane returns the conversation.
func (r *React) Lane(subjects.User) string { return string(r.Conversation) }

// Lane returns the conversation.
func (a *Append) Lane(subjects.User) string { return string(a.Conversation) }

// Lane returns the conversation.
func (q *MarkQuery) Lane(subjects.User) string { return string(q.Conversation) }

// Lane returns the conversation to be, or "" where the server chooses its id.
func (c *Create) Lane(subjects.User) string {
	conversation, err := subjects.NewConversation(c.Kind, c.ID)
	if err != nil {
		return ""
	}
	return string(conversation)
}

// Lane returns the conversation.
func (q *ConversationQuery) Lane(subjects.User) string { return string(q.Conversation) }

// Lane returns the conversation.
func (u *Update) Lane(subjects.User) string { return string(u.Conversation) }

// Lane returns the conversation.
func (m *MemberUpdate) Lane(subjects.User) string { return string(m.Conversation) }
