// The entries of one conversation that a reader can see: always one stretch
// without a hole and without a repeat. What arrives out of order waits until
// the page for the hole has come.

import { delay, sleep } from "./backoff.js";
import { Emitter } from "./emitter.js";
import { Amendments } from "./fold.js";
import { CallError, DISCONNECTED, type ConversationID, type Entry, type Page, type UserID } from "./protocol.js";

export interface PageRequest {
  conversation: ConversationID;
  before?: number;
  after?: number;
  limit: number;
  at_least?: number;
}

export type Pages = (request: PageRequest) => Promise<Page>;

const PAGE = 60;
const LARGEST_PAGE = 200;
/** A hole beyond this many entries is not filled: the reader starts at the end again. */
const LARGEST_HOLE = 1_000;
/** So often may a page come back empty for a seq that an event has shown. */
const EMPTY_PAGES = 5;

export class Log extends Emitter<{ change: void }> {
  /** The seqs of the ends of what is shown; last is 0 while nothing is. */
  first = 0;
  last = 0;
  moreBefore = true;
  loaded = false;

  private base = new Map<number, Entry>();
  private ahead = new Map<number, Entry>();
  private amendments = new Amendments();
  private wanted = 0;
  /** How far back has been asked for; beyond first only over what was erased. */
  private oldest = 0;
  private filling = false;
  private loadingOlder = false;
  private announced = false;

  constructor(
    readonly conversation: ConversationID,
    private readonly pages: Pages,
  ) {
    super();
  }

  /** entries are folded, in order of seq, all kinds that are not folded away. */
  entries(): Entry[] {
    const list: Entry[] = [];
    for (let seq = this.first; seq <= this.last; seq++) {
      const entry = this.base.get(seq);
      if (entry && !isAmendment(entry)) list.push(this.amendments.fold(entry));
    }
    return list;
  }

  /** has is true when the author's entry with that client id is shown. */
  has(from: UserID, clientID: string): boolean {
    for (const entry of this.base.values()) if (entry.client_id === clientID && entry.from === from) return true;
    return false;
  }

  entry(seq: number): Entry | undefined {
    const entry = this.base.get(seq);
    return entry && this.amendments.fold(entry);
  }

  /** receive takes a live entry: the next is shown, a repeat dropped, a jump filled. */
  receive(entry: Entry): void {
    if (!this.loaded) {
      this.wanted = Math.max(this.wanted, entry.seq);
      return;
    }
    if (entry.seq <= this.last) return;
    if (entry.seq === this.last + 1 && !this.filling) {
      this.append([entry]);
      this.drainAhead();
    } else {
      this.ahead.set(entry.seq, entry);
    }
    this.expect(entry.seq);
  }

  /** expect says that seq exists; what is missing up to it is fetched. */
  expect(seq: number): void {
    this.wanted = Math.max(this.wanted, seq);
    if (this.loaded && this.wanted > this.last) void this.fill();
  }

  /** load shows the newest page; it throws the CallError of history.page. */
  async load(): Promise<void> {
    const page = await this.pages({ conversation: this.conversation, limit: PAGE, at_least: this.wanted || undefined });
    this.base.clear();
    this.amendments.clear();
    this.first = 0;
    this.last = 0;
    this.loaded = true;
    this.append(page.entries);
    if (page.entries.length === 0) this.last = Math.max(0, page.last);
    this.moreBefore = page.more_before;
    this.oldest = this.first;
    this.drainAhead();
    this.expect(this.wanted);
    this.announce();
  }

  /** older puts one page in front; it is false when there was nothing to do. */
  async older(): Promise<boolean> {
    if (!this.loaded || !this.moreBefore || this.loadingOlder || this.oldest <= 1) return false;
    this.loadingOlder = true;
    try {
      const before = this.oldest;
      const page = await this.pages({ conversation: this.conversation, before, limit: PAGE });
      if (this.oldest !== before) return false;
      for (const entry of page.entries) {
        if (entry.seq >= before) continue;
        this.keep(entry);
        this.first = Math.min(this.first, entry.seq);
      }
      // A page without entries was erased: the one before it may not be.
      this.oldest = page.entries.length > 0 ? this.first : before - PAGE;
      this.moreBefore = page.more_before && this.oldest > 1;
      this.announce();
      return true;
    } finally {
      this.loadingOlder = false;
    }
  }

  private async fill(): Promise<void> {
    if (this.filling) return;
    this.filling = true;
    try {
      await this.fillHoles();
    } finally {
      this.filling = false;
    }
  }

  private async fillHoles(): Promise<void> {
    let empty = 0;
    let attempt = 0;
    for (;;) {
      this.drainAhead();
      if (this.last >= this.wanted) return;
      try {
        if (this.wanted - this.last > LARGEST_HOLE) {
          await this.load();
          continue;
        }
        const limit = Math.min(LARGEST_PAGE, this.wanted - this.last);
        const page = await this.pages({
          conversation: this.conversation,
          after: this.last,
          limit,
          at_least: this.wanted,
        });
        if (this.append(page.entries)) {
          empty = 0;
          continue;
        }
        if (page.more_after) {
          this.last += limit; // All of these were erased.
          continue;
        }
        if (++empty > EMPTY_PAGES) return this.skipErased();
      } catch (reason) {
        const err = CallError.of(reason);
        if (err.code === DISCONNECTED || !err.retryable) return;
      }
      await sleep(delay(attempt++)).done;
    }
  }

  /** The store has nothing there: retention has erased it. Go on after it. */
  private skipErased(): void {
    const next = Math.min(...this.ahead.keys());
    this.last = Number.isFinite(next) ? next - 1 : this.wanted;
    this.drainAhead();
  }

  private drainAhead(): void {
    for (let next = this.ahead.get(this.last + 1); next; next = this.ahead.get(this.last + 1)) this.append([next]);
    for (const seq of this.ahead.keys()) if (seq <= this.last) this.ahead.delete(seq);
  }

  /** append takes entries in order and drops what is known; true if any was new. */
  private append(entries: Entry[]): boolean {
    let fresh = false;
    for (const entry of entries) {
      if (entry.seq <= this.last) continue;
      this.keep(entry);
      if (this.first === 0) this.first = entry.seq;
      this.last = entry.seq;
      fresh = true;
    }
    if (fresh) this.announce();
    return fresh;
  }

  private keep(entry: Entry): void {
    this.base.set(entry.seq, entry);
    this.amendments.add(entry);
  }

  /** announce tells of many changes in one turn once. */
  private announce(): void {
    if (this.announced) return;
    this.announced = true;
    queueMicrotask(() => {
      this.announced = false;
      this.emit("change", undefined);
    });
  }
}

function isAmendment(entry: Entry): boolean {
  return entry.kind === "edit" || entry.kind === "recall" || entry.kind === "reaction" || entry.kind === "pin";
}
