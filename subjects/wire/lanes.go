package wire

import "github.com/confab-im/confab/subjects"

// The Lane methods below say which requests must keep their order: those of one lane are worked on one after another inside an instance,
// all others side by side. The lane is the conversation, which may depend on who calls; an empty
// lane keeps no order.

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
