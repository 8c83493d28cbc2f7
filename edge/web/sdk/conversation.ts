// What a client knows about one conversation besides its log: title, head, read
// marks, who is typing.

import { peerOf, type ConversationID, type Entry, type Head, type Mark, type Role, type UserID } from "./protocol.js";
import type { Log } from "./log.js";

export interface PeerMarks {
  read: number;
  delivered: number;
}

export class Conversation {
  title: string;
  role: Role | undefined;
  head: Mark = { seq: 0, count: 0 };
  read: Mark = { seq: 0, count: 0 };
  /** The newest entry, of whatever kind, and the newest worth showing in a list. */
  tail: Entry | undefined;
  preview: Entry | undefined;
  log: Log | undefined;
  private readonly madeAt = new Date().toISOString();
  readonly kind: "direct" | "group" | "channel";
  readonly peer: UserID;
  readonly marks = new Map<UserID, PeerMarks>();
  readonly typing = new Map<UserID, ReturnType<typeof setTimeout>>();

  constructor(
    readonly id: ConversationID,
    private readonly me: UserID,
  ) {
    this.kind = id.startsWith("d.") ? "direct" : id.startsWith("c.") ? "channel" : "group";
    this.peer = peerOf(id, me);
    this.title = this.peer || id.slice(2);
  }

  /** unread counts the messages of others after the user's mark. */
  get unread(): number {
    return Math.max(0, this.head.count - this.read.count);
  }

  /** at is the time of the newest entry, or of the making of an empty one. */
  get at(): string {
    return this.tail?.at ?? this.madeAt;
  }

  /** mayPost is false for readers of a channel. */
  get mayPost(): boolean {
    return this.role !== "reader";
  }

  /** learn takes the server's word; what is newer here already stays. */
  learn(head: Head): void {
    if (!this.peer && head.title) this.title = head.title;
    if (head.role) this.role = head.role;
    if (head.read && head.read.seq >= this.read.seq) this.read = { seq: head.read.seq, count: head.read.count };
    if (head.head && head.head.seq >= this.head.seq) {
      this.head = { seq: head.head.seq, count: head.head.count };
      if (head.head.entry) this.show(head.head.entry);
    }
  }

  /** advance moves the head to a live entry; false if it was known. */
  advance(entry: Entry): boolean {
    if (entry.seq <= this.head.seq) return false;
    this.head = { seq: entry.seq, count: entry.count };
    this.show(entry);
    if (entry.kind === "message" && entry.from === this.me) this.readUpTo({ seq: entry.seq, count: entry.count });
    if (entry.kind === "message") this.marked(entry.from, entry.seq, entry.seq);
    return true;
  }

  /** readUpTo moves the user's own mark, never back. */
  readUpTo(mark: Mark): void {
    if (mark.seq > this.read.seq) this.read = mark;
  }

  /** marked notes how far another member has read; true if that was news. */
  marked(user: UserID, read: number, delivered: number): boolean {
    const old = this.marks.get(user) ?? { read: 0, delivered: 0 };
    const next = {
      read: Math.max(old.read, read),
      delivered: Math.max(old.delivered, delivered, read),
    };
    this.marks.set(user, next);
    return next.read !== old.read || next.delivered !== old.delivered;
  }

  private show(entry: Entry): void {
    this.tail = entry;
    if (entry.kind === "message" || entry.kind === "member" || !this.preview) {
      this.preview = entry;
    } else if (entry.target === this.preview.seq) {
      if (entry.kind === "recall") this.preview = { ...this.preview, recalled: true, body: undefined };
      if (entry.kind === "edit" && entry.body) this.preview = { ...this.preview, body: entry.body };
    }
  }
}
