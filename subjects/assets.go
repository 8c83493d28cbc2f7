package subjects

import (
	"fmt"
	"strconv"
	"strings"
)

// Streams other than those of messages, which MessagesStream names.
const (
	StreamJobs        = "IM_JOBS"
	StreamDeadLetters = "IM_DEADLETTERS"
)

// Buckets.
const (
	BucketUsers         = "IM_USERS"
	BucketConversations = "IM_CONVERSATIONS"
	BucketMembers       = "IM_MEMBERS"
	BucketCursors       = "IM_CURSORS"
	BucketPresence      = "IM_PRESENCE"
	BucketSessions      = "IM_SESSIONS"
	BucketAmends        = "IM_AMENDS"
	BucketPages         = "IM_PAGES"
	BucketConfig        = "IM_CONFIG"
	BucketProbes        = "IM_PROBES"
)

// MessagesStream returns the name of the stream of one partition, 0 to Partitions-1.
func MessagesStream(partition int) string { return fmt.Sprintf("IM_MESSAGES_%02d", partition) }

// StreamOf returns the name of the stream that holds a conversation.
func StreamOf(c Conversation) string { return MessagesStream(c.Partition()) }

// PartitionMessages returns the pattern of what the stream of one partition stores.
func PartitionMessages(partition int) string { return fmt.Sprintf("im.msg.p%02d.>", partition) }

// ProbeMessage returns a subject of the stream of one partition that is of no conversation.
func ProbeMessage(partition int) string { return fmt.Sprintf("im.msg.p%02d.probe", partition) }

// BucketStream returns the name of the stream behind a bucket.
func BucketStream(bucket string) string { return "KV_" + bucket }

// BucketSubject returns the subject under which a bucket's stream stores a key; the key may be a pattern.
func BucketSubject(bucket, key string) string { return "$KV." + bucket + "." + key }

// MemberKey returns the key, in IM_MEMBERS, of a user's membership seen from the conversation.
func MemberKey(c Conversation, u User) string { return "c." + string(c) + "." + string(u) }

// MembersPattern returns the pattern of all memberships of a conversation.
func MembersPattern(c Conversation) string { return "c." + string(c) + ".*" }

// MembershipKey returns the key, in IM_MEMBERS, of a membership seen from the user.
func MembershipKey(u User, c Conversation) string { return "u." + string(u) + "." + string(c) }

// MembershipsPattern returns the pattern of all memberships of a user.
func MembershipsPattern(u User) string { return "u." + string(u) + ".>" }

// CursorKey returns the key, in IM_CURSORS, of a user's marks in a conversation.
func CursorKey(u User, c Conversation) string { return "u." + string(u) + "." + string(c) }

// CursorsPattern returns the pattern of all marks of a user.
func CursorsPattern(u User) string { return MembershipsPattern(u) }

// FormerCursors is the pattern of the keys, in IM_CURSORS, under which earlier builds kept every mark a second time, c.<conversation>.<user>. Nobody reads them.
const FormerCursors = "c.>"

// LeaseKey returns the key, in IM_PRESENCE, of an edge's lease.
func LeaseKey(e Edge) string { return "e." + string(e) }

// DeviceKey returns the key, in IM_PRESENCE, of one device's record; the device may be "*" in a pattern.
func DeviceKey(u User, d Device) string { return "s." + string(u) + "." + string(d) }

// DevicesPattern returns the pattern of all device records of a user.
func DevicesPattern(u User) string { return DeviceKey(u, "*") }

// SettingKey returns the key, in IM_PRESENCE, of what a user set for all devices.
func SettingKey(u User) string { return "u." + string(u) }

// ParsePresenceKey reads a key of IM_PRESENCE: that of a lease has an edge only, that of a device a user and a device, that of a setting a
// user only. The error wraps ErrBadID.
func ParsePresenceKey(key string) (e Edge, u User, d Device, err error) {
	kind, rest, _ := strings.Cut(key, ".")
	switch kind {
	case "e":
		e, err = ParseEdge(rest)
	case "u":
		u, err = ParseUser(rest)
	case "s":
		user, device, _ := strings.Cut(rest, ".")
		if u, err = ParseUser(user); err == nil {
			d, err = ParseDevice(device)
		}
	default:
		err = badID("presence key", key)
	}
	return e, u, d, err
}

// AmendsKey returns the key, in IM_AMENDS, of what later entries changed in one page of a conversation.
func AmendsKey(c Conversation, page uint64) string { return fmt.Sprintf("%s.%d", c, page) }

// ParseAmendsKey returns the conversation and the page of a key that AmendsKey built, or an error that wraps ErrBadID.
func ParseAmendsKey(key string) (Conversation, uint64, error) {
	end := max(0, strings.LastIndexByte(key, '.'))
	c, err := ParseConversation(key[:end])
	if err != nil {
		return "", 0, err
	}
	page, err := strconv.ParseUint(key[end+1:], 10, 64)
	if err != nil || AmendsKey(c, page) != key {
		return "", 0, badID("page of amends", key)
	}
	return c, page, nil
}

// ParsePairKey returns the conversation and the user of a key of IM_MEMBERS or IM_CURSORS, and whether it is one seen from the user, or an error that wraps
// ErrBadID.
func ParsePairKey(key string) (c Conversation, u User, fromUser bool, err error) {
	side, rest, _ := strings.Cut(key, ".")
	var user, conversation string
	switch side {
	case "c":
		end := max(0, strings.LastIndexByte(rest, '.'))
		conversation, user = rest[:end], strings.TrimPrefix(rest[end:], ".")
	case "u":
		user, conversation, _ = strings.Cut(rest, ".")
	default:
		return "", "", false, badID("key", key)
	}
	if c, err = ParseConversation(conversation); err == nil {
		u, err = ParseUser(user)
	}
	return c, u, side == "u", err
}

// PageKey returns the key, in IM_PAGES, of the sealed form of one page of a conversation.
func PageKey(c Conversation, page uint64) string { return AmendsKey(c, page) }
