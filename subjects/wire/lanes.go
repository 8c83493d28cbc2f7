package wire

import "github.com/confab-im/confab/subjects"

// The Lane methods below say which requests must keep their order: those of one lane are worked on one after another inside an instance,
// all others side by side. The lane is the conversation; an empty lane keeps no order.

// Lane returns the conversation, or a name for the direct conversation with the user that the post is to.
func (p *Post) Lane() string {
	if p.To != "" {
		return "to " + string(p.To)
	}
	return string(p.Conversation)
}

// Lane returns the conversation.
func (e *Edit) Lane() string { return string(e.Conversation) }

// Lane returns the conversation.
func (r *Recall) Lane() string { return string(r.Conversation) }

// Lane returns the conversation.
func (r *React) Lane() string { return string(r.Conversation) }

// Lane returns the conversation.
func (a *Append) Lane() string { return string(a.Conversation) }

// Lane returns the conversation.
func (q *MarkQuery) Lane() string { return string(q.Conversation) }

// Lane returns the conversation to be, or "" where the server chooses its id.
func (c *Create) Lane() string {
	conversation, err := subjects.NewConversation(c.Kind, c.ID)
	if err != nil {
		return ""
	}
	return string(conversation)
}

// Lane returns the conversation.
func (q *ConversationQuery) Lane() string { return string(q.Conversation) }

// Lane returns the conversation.
func (u *Update) Lane() string { return string(u.Conversation) }

// Lane returns the conversation.
func (m *MemberUpdate) Lane() string { return string(m.Conversation) }
