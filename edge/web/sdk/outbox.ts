// What the user wants stored and the server has not confirmed yet. Every item is
// written down before it is sent, and leaves only with an ok, a sighting of its
// entry, or by the user's hand. An unknown result is repeated with the same id.

import { delay, sleep } from "./backoff.js";
import { Emitter } from "./emitter.js";
import { timeOf, uuidv7 } from "./ids.js";
import { CallError, DISCONNECTED, type Body, type ConversationID, type Stored, type UserID } from "./protocol.js";
import { readJSON, type Storage } from "./storage.js";

export type SendCall = "send.post" | "send.edit" | "send.recall" | "send.react";

export interface Item {
  client_id: string;
  call: SendCall;
  conversation: ConversationID;
  /** The data of the call without client_id. */
  data: { body?: Body; [field: string]: unknown };
  state: "queued" | "sending" | "failed";
  /** The code of the last definite no. */
  error?: string;
  renewals: number;
}

export interface OutboxLine {
  online(): boolean;
  now(): number;
  call(name: string, data: unknown): Promise<unknown>;
  /** find looks for the user's own entry with client_id, not older than since. */
  find(conversation: ConversationID, clientID: string, sinceMs: number): Promise<Stored | undefined>;
}

export interface OutboxEvents {
  change: ConversationID;
  sent: { item: Item; stored: Stored };
  failed: Item;
}

/** After so many new ids for one message something is wrong with the clock. */
const RENEWALS = 3;
const CLOCK_SLACK_MS = 60_000;

export class Outbox extends Emitter<OutboxEvents> {
  private items = new Map<string, Item>();
  private running = new Set<ConversationID>();
  private readonly prefix: string;

  constructor(
    private readonly storage: Storage,
    user: UserID,
    private readonly line: OutboxLine,
  ) {
    super();
    this.prefix = `outbox.${user}.`;
    for (const key of storage.keys(this.prefix).sort()) {
      const item = readJSON<Item>(storage, key);
      if (!item?.client_id) continue;
      if (item.state === "sending") item.state = "queued";
      this.items.set(item.client_id, item);
    }
  }

  add(call: SendCall, conversation: ConversationID, data: Item["data"]): Item {
    const client_id = uuidv7(this.line.now());
    const item: Item = { client_id, call, conversation, data, state: "queued", renewals: 0 };
    this.items.set(client_id, item);
    this.save(item);
    void this.run(conversation);
    return item;
  }

  /** pending posts of a conversation, oldest first. */
  pending(conversation: ConversationID): Item[] {
    return [...this.items.values()].filter((i) => i.conversation === conversation && i.call === "send.post");
  }

  get size(): number {
    return this.items.size;
  }

  /** resume sends what waits; to be called whenever the connection is ready. */
  resume(): void {
    for (const conversation of new Set([...this.items.values()].map((i) => i.conversation))) void this.run(conversation);
  }

  /** seen drops an item whose entry has come back as an event or in a page. */
  seen(clientID: string | undefined): void {
    const item = clientID ? this.items.get(clientID) : undefined;
    if (item) this.drop(item);
  }

  /** retry sends a failed item again, under the same client id. */
  retry(clientID: string): void {
    const item = this.items.get(clientID);
    if (!item || item.state !== "failed") return;
    item.state = "queued";
    item.error = undefined;
    item.renewals = 0;
    this.save(item);
    void this.run(item.conversation);
  }

  discard(clientID: string): void {
    this.seen(clientID);
  }

  clear(): void {
    for (const item of [...this.items.values()]) this.drop(item);
  }

  /** run sends the items of one conversation one after another, to keep order. */
  private async run(conversation: ConversationID): Promise<void> {
    if (this.running.has(conversation)) return;
    this.running.add(conversation);
    try {
      for (let attempt = 0; this.line.online(); ) {
        const item = this.next(conversation);
        if (!item) return;
        const err = await this.try(item);
        if (!err) attempt = 0;
        else if (err.code === DISCONNECTED) return;
        else if (err.retryable) await sleep(delay(attempt++, err.retryAfterMs)).done;
      }
    } finally {
      this.running.delete(conversation);
    }
  }

  private next(conversation: ConversationID): Item | undefined {
    for (const item of this.items.values()) {
      if (item.conversation === conversation && item.state === "queued") return item;
    }
    return undefined;
  }

  /** try sends once; it returns undefined when the item needs no further try. */
  private async try(item: Item): Promise<CallError | undefined> {
    item.state = "sending";
    this.emit("change", item.conversation);
    try {
      const stored = (await this.line.call(item.call, { ...item.data, client_id: item.client_id })) as Stored;
      this.finish(item, stored);
      return undefined;
    } catch (reason) {
      let err = CallError.of(reason);
      if (err.code === "retry_window_expired") {
        const failed = await this.renew(item);
        if (!failed) return undefined;
        err = failed;
      }
      if (!this.items.has(item.client_id)) return undefined;
      item.state = err.retryable ? "queued" : "failed";
      item.error = err.retryable ? undefined : err.code;
      this.save(item);
      if (item.state === "failed") this.emit("failed", item);
      return err.retryable ? err : undefined;
    }
  }

  /**
   * renew: the id is too old for the server to recognise a repeat. An earlier try
   * may have been stored, so history decides; only then a new id is safe.
   */
  private async renew(item: Item): Promise<CallError | undefined> {
    try {
      const since = timeOf(item.client_id) - CLOCK_SLACK_MS;
      const stored = await this.line.find(item.conversation, item.client_id, since);
      if (stored) {
        this.finish(item, stored);
        return undefined;
      }
    } catch (reason) {
      const err = CallError.of(reason);
      if (err.retryable) return err;
    }
    if (++item.renewals > RENEWALS) return new CallError("retry_window_expired");
    this.storage.remove(this.prefix + item.client_id);
    this.items.delete(item.client_id);
    item.client_id = uuidv7(this.line.now());
    item.state = "queued";
    this.items.set(item.client_id, item);
    this.save(item);
    return undefined;
  }

  private finish(item: Item, stored: Stored): void {
    if (!this.items.has(item.client_id)) return;
    this.emit("sent", { item, stored });
    this.drop(item);
  }

  private drop(item: Item): void {
    this.items.delete(item.client_id);
    this.storage.remove(this.prefix + item.client_id);
    this.emit("change", item.conversation);
  }

  private save(item: Item): void {
    this.storage.write(this.prefix + item.client_id, JSON.stringify(item));
    this.emit("change", item.conversation);
  }
}
