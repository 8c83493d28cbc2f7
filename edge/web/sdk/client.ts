// The client: one signed-in user, all conversations, kept up to date. It joins
// the connection, the outbox and the logs, and tells the app what has changed.

import { delay, sleep } from "./backoff.js";
import { Connection, type ConnectionState } from "./connection.js";
import { Conversation } from "./conversation.js";
import { Credentials } from "./credentials.js";
import { Emitter } from "./emitter.js";
import { Log } from "./log.js";
import { Marks } from "./marks.js";
import { Outbox, type Item } from "./outbox.js";
import {
  CallError,
  direct,
  seqOf,
  type Body,
  type ConversationID,
  type Entry,
  type Head,
  type Hello,
  type Member,
  type Page,
  type Presence,
  type Receipt,
  type ServerEvents,
  type Stored,
  type UserID,
} from "./protocol.js";
import type { Lock, Storage } from "./storage.js";

export interface ClientOptions {
  /** The WebSocket address, such as wss://chat.example/v1/ws. */
  url: string;
  /** This installation's name: two sockets of one device replace each other. */
  device: string;
  storage: Storage;
  lock?: Lock;
}

export interface ClientEvents {
  state: ConnectionState;
  /** The list of conversations, or something in one that a list shows. */
  conversations: void;
  /** The log, the outbox or the marks of one conversation. */
  conversation: ConversationID;
  typing: ConversationID;
  presence: UserID;
  failed: Item;
  signedOut: { reason: string };
}

const TYPING_SHOWN_MS = 6_000;
const TYPING_SENT_EVERY_MS = 3_000;
const HEADS = 100;
const WATCH = 100;
const FIND_PAGES = 20;

export class Client extends Emitter<ClientEvents> {
  readonly conversations = new Map<ConversationID, Conversation>();
  readonly presence = new Map<UserID, Presence>();
  readonly connection: Connection;
  readonly outbox: Outbox;
  /** False until history.heads has been answered once. */
  listed = false;

  private readonly marks: Marks;
  private readonly credentials: Credentials;
  private readonly watched = new Set<UserID>();
  private listing: Promise<void> | undefined;
  private listAgain = false;
  private readonly typedAt = new Map<ConversationID, number>();

  constructor(
    readonly me: UserID,
    options: ClientOptions,
  ) {
    super();
    this.credentials = new Credentials(options.storage, options.lock);
    this.connection = new Connection(options.url, options.device, this.credentials);
    this.outbox = new Outbox(options.storage, me, {
      online: () => this.connection.online,
      now: () => this.connection.now(),
      call: (name, data) => this.connection.call(name, data),
      find: (conversation, clientID, since) => this.find(conversation, clientID, since),
    });
    this.marks = new Marks((conversation, marks) => this.sendMarks(conversation, marks));
    this.connection.on("state", (state) => this.emit("state", state));
    this.connection.on("ready", (hello) => this.ready(hello));
    this.connection.on("event", ({ event, data }) => this.onEvent(event, data));
    this.connection.on("signedOut", (why) => this.leave(why.reason));
    this.outbox.on("change", (conversation) => this.emit("conversation", conversation));
    this.outbox.on("failed", (item) => this.emit("failed", item));
    this.outbox.on("sent", ({ item, stored }) => this.stored(item, stored));
  }

  start(): void {
    this.connection.start();
  }

  stop(): void {
    this.connection.stop();
    this.marks.stop();
  }

  /**
   * signOut ends the session on the server, where it can be reached, and here.
   * What was not sent is dropped: the next person at this machine must not find it.
   */
  async signOut(): Promise<void> {
    try {
      await this.connection.call("auth.logout", {}, 3_000);
    } catch {
      // Signing out must work without a server; the session then just expires.
    }
    this.outbox.clear();
    this.leave("left");
  }

  /** leave forgets the tokens, unless another page has signed in somebody else. */
  private leave(reason: string): void {
    this.stop();
    if (this.credentials.load()?.user === this.me) this.credentials.clear();
    this.emit("signedOut", { reason });
  }

  // ---- what the user does

  post(conversation: ConversationID, body: Body, replyTo?: number): Item {
    this.typedAt.delete(conversation);
    const known = this.ensure(conversation);
    const unborn = known.peer !== "" && known.head.seq === 0;
    const data: Item["data"] = unborn ? { to: known.peer, body } : { conversation, body };
    if (replyTo) data["reply_to"] = replyTo;
    return this.outbox.add("send.post", conversation, data);
  }

  edit(conversation: ConversationID, seq: number, body: Body): Item {
    return this.outbox.add("send.edit", conversation, { conversation, seq, body });
  }

  recall(conversation: ConversationID, seq: number): Item {
    return this.outbox.add("send.recall", conversation, { conversation, seq });
  }

  react(conversation: ConversationID, seq: number, emoji: string, remove = false): Item {
    return this.outbox.add("send.react", conversation, { conversation, seq, emoji, ...(remove ? { remove } : {}) });
  }

  /** typing says so at most every three seconds, and at once after a post, which ends it for the others; it is never stored. */
  typing(conversation: ConversationID): void {
    const now = Date.now();
    if (now - (this.typedAt.get(conversation) ?? 0) < TYPING_SENT_EVERY_MS) return;
    this.typedAt.set(conversation, now);
    this.connection.notify("signal", { conversation, kind: "typing" });
  }

  /** markRead moves the user's mark; the call is put off a little and coalesced. */
  markRead(id: ConversationID, seq: number): void {
    const conversation = this.conversations.get(id);
    if (!conversation || seq <= conversation.read.seq) return;
    this.marks.read(id, seq);
  }

  /** openDirect returns the conversation with another user, known or new. */
  openDirect(user: UserID): ConversationID {
    return direct(this.me, user);
  }

  async create(title: string, members: UserID[], kind: "group" | "channel" = "group"): Promise<ConversationID> {
    const made = (await this.connection.call("conversations.create", { kind, title, members })) as {
      conversation: ConversationID;
    };
    this.ensure(made.conversation).title = title;
    this.list();
    return made.conversation;
  }

  async join(conversation: ConversationID): Promise<void> {
    await this.connection.call("conversations.join", { conversation });
    this.ensure(conversation);
    this.list();
  }

  async quit(conversation: ConversationID): Promise<void> {
    await this.connection.call("conversations.leave", { conversation });
    this.forget(conversation);
  }

  async add(conversation: ConversationID, user: UserID): Promise<void> {
    await this.connection.call("conversations.add", { conversation, user });
  }

  /** members reads the first 100, in the server's order, and whether there are more. */
  async members(conversation: ConversationID): Promise<{ members: Member[]; more: boolean }> {
    const page = (await this.connection.call("conversations.members", { conversation, limit: 100 })) as {
      members?: Member[];
      next?: string;
    };
    return { members: page.members ?? [], more: Boolean(page.next) };
  }

  /** size is how many members a conversation has. */
  async size(conversation: ConversationID): Promise<number> {
    const found = (await this.connection.call("conversations.get", { conversation })) as { members?: number };
    return found.members ?? 0;
  }

  /** who fills in how far a direct conversation's peer has come. */
  async who(id: ConversationID, seq: number): Promise<void> {
    const conversation = this.conversations.get(id);
    if (!conversation) return;
    const who = (await this.connection.call("receipts.who", { conversation: id, seq })) as {
      read?: UserID[];
      delivered?: UserID[];
    };
    let news = false;
    for (const user of who.read ?? []) news = conversation.marked(user, seq, seq) || news;
    for (const user of who.delivered ?? []) news = conversation.marked(user, 0, seq) || news;
    if (news) this.emit("conversation", id);
  }

  /** open returns the log, loaded; it throws the CallError of history.page. */
  async open(id: ConversationID): Promise<Log> {
    const conversation = this.ensure(id);
    this.watch();
    if (!conversation.log) {
      const log = new Log(id, (request) => this.connection.call("history.page", request) as Promise<Page>);
      log.on("change", () => this.changed(log));
      conversation.log = log;
    }
    if (!conversation.log.loaded) await conversation.log.load();
    return conversation.log;
  }

  /** sorted is all conversations, the most recent first. */
  sorted(): Conversation[] {
    return [...this.conversations.values()].sort((a, b) => (a.at < b.at ? 1 : a.at > b.at ? -1 : a.id < b.id ? -1 : 1));
  }

  // ---- what the server says

  private ready(hello: Hello): void {
    if (hello.user !== this.me) return this.leave("refused");
    this.watched.clear();
    this.outbox.resume();
    this.list();
  }

  /** list asks for the heads, once at a time, until they have come. */
  private list(): void {
    if (this.listing) {
      this.listAgain = true;
      return;
    }
    this.listing = this.readHeads().finally(() => {
      this.listing = undefined;
      if (this.listAgain && this.connection.online) {
        this.listAgain = false;
        this.list();
      }
    });
  }

  private async readHeads(): Promise<void> {
    for (let attempt = 0; this.connection.online; attempt++) {
      try {
        const heads: Head[] = [];
        let after: string | undefined;
        do {
          const part = (await this.connection.call("history.heads", { after, limit: HEADS })) as {
            conversations?: Head[];
            next?: string;
          };
          heads.push(...(part.conversations ?? []));
          after = part.next || undefined;
        } while (after);
        this.learn(heads);
        return;
      } catch (reason) {
        if (!CallError.of(reason).retryable) return;
        await sleep(delay(attempt)).done;
      }
    }
  }

  private learn(heads: Head[]): void {
    const named = new Set(heads.map((head) => head.conversation));
    for (const [id, conversation] of this.conversations) {
      if (!named.has(id) && conversation.head.seq > 0) this.conversations.delete(id);
    }
    for (const head of heads) {
      const conversation = this.ensure(head.conversation);
      conversation.learn(head);
      conversation.log?.expect(conversation.head.seq);
    }
    this.listed = true;
    this.watch();
    this.emit("conversations", undefined);
    for (const head of heads) this.emit("conversation", head.conversation);
  }

  private onEvent(event: keyof ServerEvents, data: unknown): void {
    switch (event) {
      case "entry":
        return this.onEntry(data as Entry);
      case "receipt":
        return this.onReceipt(data as Receipt);
      case "presence": {
        const presence = data as ServerEvents["presence"];
        this.presence.set(presence.user, presence);
        return this.emit("presence", presence.user);
      }
      case "signal": {
        const signal = data as ServerEvents["signal"];
        if (signal.kind === "typing" && signal.user !== this.me) this.onTyping(signal.conversation, signal.user);
        return;
      }
      case "conversation": {
        const { conversation, change } = data as ServerEvents["conversation"];
        return change === "removed" ? this.forget(conversation) : this.list();
      }
      case "head": {
        const head = data as ServerEvents["head"];
        const known = this.conversations.get(head.conversation);
        if (!known || known.head.seq < head.seq) this.list();
        return known?.log?.expect(head.seq);
      }
      case "resync":
        return this.list();
      case "session":
        if ((data as ServerEvents["session"]).revoked) this.leave("revoked");
    }
  }

  private onEntry(entry: Entry): void {
    const known = this.conversations.has(entry.conversation);
    const conversation = this.ensure(entry.conversation);
    if (entry.from === this.me) this.outbox.seen(entry.client_id);
    if (entry.kind === "message") this.stopTyping(conversation, entry.from);
    if (conversation.advance(entry)) {
      if (conversation.kind === "direct" && entry.from !== this.me) this.marks.delivered(conversation.id, entry.seq);
      this.emit("conversations", undefined);
    }
    conversation.log?.receive(entry);
    if (!known || (entry.kind === "member" && entry.body?.["user"] === this.me)) this.list();
  }

  /** stored shows an own message as soon as it is safe, before its event comes. */
  private stored(item: Item, stored: Stored): void {
    if (item.call !== "send.post" || stored.duplicate) {
      this.conversations.get(item.conversation)?.log?.expect(stored.seq);
      return;
    }
    const { conversation, seq, count, at } = stored;
    const entry: Entry = { conversation, seq, count, at, kind: "message", from: this.me, client_id: item.client_id };
    entry.body = item.data.body;
    if (typeof item.data["reply_to"] === "number") entry.reply_to = item.data["reply_to"];
    this.onEntry(entry);
  }

  private onReceipt(receipt: Receipt): void {
    const conversation = this.conversations.get(receipt.conversation);
    if (!conversation) return;
    const read = seqOf(receipt.read);
    if (receipt.user === this.me) {
      const count = typeof receipt.read === "object" ? receipt.read.count : undefined;
      this.ownMark(conversation, read, count);
    } else if (conversation.marked(receipt.user, read, seqOf(receipt.delivered))) {
      this.emit("conversation", conversation.id);
    }
  }

  private ownMark(conversation: Conversation, seq: number, count: number | undefined): void {
    const known = count ?? (seq >= conversation.head.seq ? conversation.head.count : conversation.log?.entry(seq)?.count);
    if (known === undefined) return;
    conversation.readUpTo({ seq, count: known });
    this.emit("conversations", undefined);
  }

  private async sendMarks(id: ConversationID, marks: { read?: number; delivered?: number }): Promise<void> {
    const answer = (await this.connection.call("receipts.mark", { conversation: id, ...marks })) as {
      read?: { seq: number; count?: number };
    };
    const conversation = this.conversations.get(id);
    if (conversation && answer.read && marks.read) this.ownMark(conversation, answer.read.seq, answer.read.count);
  }

  private onTyping(id: ConversationID, user: UserID): void {
    const conversation = this.conversations.get(id);
    if (!conversation) return;
    clearTimeout(conversation.typing.get(user));
    conversation.typing.set(
      user,
      setTimeout(() => this.stopTyping(conversation, user), TYPING_SHOWN_MS),
    );
    this.emit("typing", id);
  }

  private stopTyping(conversation: Conversation, user: UserID): void {
    const timer = conversation.typing.get(user);
    if (timer === undefined) return;
    clearTimeout(timer);
    conversation.typing.delete(user);
    this.emit("typing", conversation.id);
  }

  /** changed: own entries that came in a page settle the outbox as well. */
  private changed(log: Log): void {
    for (const item of this.outbox.pending(log.conversation)) {
      if (log.has(this.me, item.client_id)) this.outbox.seen(item.client_id);
    }
    this.emit("conversation", log.conversation);
  }

  /** watch asks for the presence of the peers of direct conversations. */
  private watch(): void {
    const peers = [...this.conversations.values()].map((c) => c.peer).filter((p) => p && !this.watched.has(p));
    for (let i = 0; i < peers.length; i += WATCH) {
      const users = peers.slice(i, i + WATCH);
      for (const user of users) this.watched.add(user);
      this.connection.call("presence.watch", { users }).then(
        (answer) => {
          for (const [user, state] of Object.entries((answer as { users?: Record<string, Presence> }).users ?? {})) {
            this.presence.set(user, state);
            this.emit("presence", user);
          }
        },
        () => users.forEach((user) => this.watched.delete(user)),
      );
    }
  }

  /** find walks back from the newest page to the time of an unconfirmed send. */
  private async find(conversation: ConversationID, clientID: string, sinceMs: number): Promise<Stored | undefined> {
    let before: number | undefined;
    for (let i = 0; i < FIND_PAGES; i++) {
      const page = (await this.connection.call("history.page", { conversation, before, limit: 200 })) as Page;
      for (const entry of page.entries) {
        if (entry.from !== this.me || entry.client_id !== clientID) continue;
        return { conversation, seq: entry.seq, count: entry.count, at: entry.at, duplicate: true };
      }
      const oldest = page.entries[0];
      if (!oldest || !page.more_before || Date.parse(oldest.at) < sinceMs) return undefined;
      before = oldest.seq;
    }
    return undefined;
  }

  private forget(id: ConversationID): void {
    this.conversations.delete(id);
    this.emit("conversations", undefined);
    this.emit("conversation", id);
  }

  /** conversation returns what is known of one, which may be only its name. */
  conversation(id: ConversationID): Conversation {
    return this.ensure(id);
  }

  private ensure(id: ConversationID): Conversation {
    let conversation = this.conversations.get(id);
    if (!conversation) this.conversations.set(id, (conversation = new Conversation(id, this.me)));
    return conversation;
  }
}
