package subjects

import "strings"

// Keys of IM_USERS. A user's profile stands under the bare handle, which has no dot, so the prefixes below cannot meet it.

// ProfileKey returns the key, in IM_USERS, of a user's profile.
func ProfileKey(u User) string { return string(u) }

// CredentialKey returns the key, in IM_USERS, of how a user proves to be the user.
func CredentialKey(u User) string { return "credential." + string(u) }

// IdentityKey returns the key, in IM_USERS, of the handle that a foreign identity was mapped to; digest is of the form of a User.
func IdentityKey(digest string) string { return "identity." + digest }

// ChosenPresenceKey returns the key, in IM_USERS, of the presence that a user chose; SettingKey is its mirror in IM_PRESENCE.
func ChosenPresenceKey(u User) string { return "presence." + string(u) }

// ConversationKey returns the key, in IM_CONVERSATIONS, of a conversation.
func ConversationKey(c Conversation) string { return string(c) }

// AllLeaseKeys is the pattern of the leases of all edges in IM_PRESENCE.
const AllLeaseKeys = "e.*"

// Keys of IM_SESSIONS. Only the function that verifies tokens reads and writes them.

const sessionPrefix = "session."

// SessionKey returns the key, in IM_SESSIONS, of a session of a user; session is of the form of a Device.
func SessionKey(u User, session string) string { return sessionPrefix + string(u) + "." + session }

// SessionsPattern returns the pattern of all sessions of a user.
func SessionsPattern(u User) string { return sessionPrefix + string(u) + ".*" }

// RevocationKey returns the key, in IM_SESSIONS, of the end of one session of a user, or of all of them where session is empty.
func RevocationKey(u User, session string) string {
	if session == "" {
		return "revoked." + string(u)
	}
	return "revoked." + string(u) + "." + session
}

// AllRevocationKeys is the pattern of all revocations in IM_SESSIONS.
const AllRevocationKeys = "revoked.>"

// InviteKey returns the key, in IM_SESSIONS, of an invite; digest is of the form of a User.
func InviteKey(digest string) string { return "invite." + digest }

// SigningKey returns the key, in IM_SESSIONS, of a key that signs tokens; id is of the form of a User, or "*" in a pattern.
func SigningKey(id string) string { return "key." + id }

// SignsIn reports whether a key of IM_SESSIONS is that of something with which somebody is signed in: a session, or a key that signs tokens.
func SignsIn(key string) bool {
	return strings.HasPrefix(key, sessionPrefix) || strings.HasPrefix(key, SigningKey(""))
}

// LayoutKey is the key, in IM_CONFIG, of the layout of the store.
const LayoutKey = "layout"

// ConfigKey returns the key, in IM_CONFIG, of a setting that processes watch; name is of the form of a Function, or ">" in a pattern.
func ConfigKey(name string) string { return "setting." + name }

// ProbeKey returns the key, in IM_PROBES, of what an instance stores to see whether it can; "*" in a pattern. Instances have the ids of their micro services.
func ProbeKey(instance string) string { return instance }

// RegistryKey returns the key, in IM_CONFIG, of what is registered of a function; f may be "*" in a pattern.
func RegistryKey(f Function) string { return ConfigKey("functions." + string(f)) }

// Registered returns the subject on which a change of what is registered of a function is republished.
func Registered(f Function) string { return "im.config.functions." + string(f) }
