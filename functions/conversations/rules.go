package conversations

import (
	"github.com/confab-im/confab/subjects/wire"
)

// What the answers below say is the same for what does not exist and for what must not be seen.
var (
	errNoConversation = wire.Errorf(wire.NotFound, "There is no such conversation, or you are not in it.")
	errNoUser         = wire.Errorf(wire.NotFound, "There is no such user.")
	errNoMember       = wire.Errorf(wire.NotFound, "The user is not a member of the conversation.")
	errNoTitle        = wire.Errorf(wire.BadData, "title is missing.")
	errTaken          = wire.Errorf(wire.Conflict, "The id is taken; choose another one.")
	errLastOwner      = wire.Errorf(wire.Conflict, "A conversation with members needs an owner; make another member an owner first.")
	errDirect         = wire.Errorf(wire.Forbidden, "A direct conversation belongs to its two users and cannot be changed.")
)

// mayUpdate decides whether a role may change title and policy.
func mayUpdate(actor wire.Role) error {
	if !actor.Moderates() {
		return wire.Errorf(wire.Forbidden, "Only owners and moderators change title and policy.")
	}
	return nil
}

// mayAdd decides whether a role may add somebody with a role. Owners set roles; a moderator adds those who have no say over others.
func mayAdd(actor, role wire.Role) error {
	if !actor.Moderates() {
		return wire.Errorf(wire.Forbidden, "Only owners and moderators add members.")
	}
	if actor != wire.RoleOwner && role.Moderates() {
		return wire.Errorf(wire.Forbidden, "Only owners make owners and moderators.")
	}
	return nil
}

// mayRemove decides whether a role may remove somebody of another role.
func mayRemove(actor, target wire.Role) error {
	if !actor.Moderates() {
		return wire.Errorf(wire.Forbidden, "Only owners and moderators remove members.")
	}
	if actor != wire.RoleOwner && target.Moderates() {
		return wire.Errorf(wire.Forbidden, "Only owners remove owners and moderators.")
	}
	return nil
}

// maySetRole decides whether a role may set roles.
func maySetRole(actor wire.Role) error {
	if actor != wire.RoleOwner {
		return wire.Errorf(wire.Forbidden, "Only owners set roles.")
	}
	return nil
}

// restricts reports whether a change of role takes something away. What restricts changes the bucket first and then the log, so that no
// decision of before it can be made again after it; what permits does it the other way round.
func restricts(from, to wire.Role) bool { return to.Below(from) }
