// The words of the client protocol, version 1: what a frame, an entry and an
// event look like. Unknown fields are ignored, unknown events are dropped.

export type UserID = string;
export type ConversationID = string;

export type Kind = "message" | "edit" | "recall" | "reaction" | "pin" | "member" | "policy";

/** Body is a JSON object; only `text` has a meaning by convention. */
export interface Body {
  text?: string;
  [field: string]: unknown;
}

export interface Entry {
  conversation: ConversationID;
  seq: number;
  count: number;
  kind: Kind;
  from: UserID;
  at: string;
  client_id?: string;
  body?: Body;
  reply_to?: number;
  target?: number;
  edited_at?: string;
  recalled?: boolean;
  reactions?: Record<string, UserID[]>;
}

export interface Mark {
  seq: number;
  count: number;
}

export interface Head {
  conversation: ConversationID;
  kind?: "direct" | "group" | "channel";
  title?: string;
  head?: { seq: number; count: number; entry?: Entry };
  read?: Mark;
  unread?: number;
  role?: Role;
}

export type Role = "owner" | "moderator" | "member" | "reader";

export interface Page {
  entries: Entry[];
  first: number;
  last: number;
  more_before: boolean;
  more_after: boolean;
}

export interface Member {
  user: UserID;
  role: Role;
  joined_seq: number;
}

export interface Stored {
  conversation: ConversationID;
  seq: number;
  count: number;
  at: string;
  duplicate?: boolean;
}

export interface Presence {
  state: "online" | "away" | "offline";
  last_seen?: string;
  devices?: unknown;
}

export interface Tokens {
  token: string;
  refresh_token: string;
  expires_at?: string;
  user?: UserID;
}

export interface Hello {
  user: UserID;
  device: string;
  session?: string;
  server_time?: string;
  expires_at?: string;
  ping_seconds?: number;
  limits?: { frame_bytes?: number; [limit: string]: number | undefined };
  calls?: string[];
}

export interface Receipt {
  conversation: ConversationID;
  user: UserID;
  read?: number | { seq: number; count?: number };
  delivered?: number | { seq: number };
}

/** Events maps the name of a server event to its data. */
export interface ServerEvents {
  entry: Entry;
  receipt: Receipt;
  presence: { user: UserID } & Presence;
  signal: { conversation: ConversationID; user: UserID; kind: string };
  conversation: { conversation: ConversationID; change: "added" | "removed" | "updated" };
  head: { conversation: ConversationID; seq: number };
  resync: { reason?: string };
  session: { revoked?: boolean; expires_at?: string };
  draining: { reconnect_after_ms?: number };
}

export interface WireError {
  code: string;
  message?: string;
  retry_after_ms?: number;
}

export interface Frame {
  id?: number | string;
  ok?: unknown;
  error?: WireError;
  event?: string;
  data?: unknown;
}

/** What the SDK itself reports when there was no answer: always unknown. */
export const DISCONNECTED = "disconnected";

const UNKNOWN = new Set([
  "unavailable",
  "timeout",
  "storage_unavailable",
  "internal",
  DISCONNECTED,
]);

/** CallError is the answer of a call that has no `ok`. */
export class CallError extends Error {
  constructor(
    readonly code: string,
    message = "",
    readonly retryAfterMs = 0,
  ) {
    super(message || code);
    this.name = "CallError";
  }

  /** True when the call may have happened: repeat it with the same client id. */
  get unknown(): boolean {
    return UNKNOWN.has(this.code);
  }

  /** True when repeating the same call later can succeed. */
  get retryable(): boolean {
    return this.unknown || this.code === "rate_limited";
  }

  static of(reason: unknown): CallError {
    if (reason instanceof CallError) return reason;
    return new CallError("internal", String(reason));
  }
}

/** A mark travels as a seq or as an object that holds one. */
export function seqOf(mark: number | { seq: number } | undefined): number {
  if (typeof mark === "number") return mark;
  return mark?.seq ?? 0;
}

/** The other user of a direct conversation, or "" for any other kind. */
export function peerOf(conversation: ConversationID, me: UserID): UserID {
  const [kind, a, b] = conversation.split(".");
  if (kind !== "d" || a === undefined || b === undefined) return "";
  return a === me ? b : a;
}

/** The one direct conversation of two users. */
export function direct(a: UserID, b: UserID): ConversationID {
  return a < b ? `d.${a}.${b}` : `d.${b}.${a}`;
}
