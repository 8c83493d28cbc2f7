// The view of one conversation's messages: rows keyed by seq, so that what has
// not changed stays where it is, and a scroll position that holds still.

import { CallError, DISCONNECTED, type Client, type Conversation, type Entry, type Item } from "../sdk/index.js";
import { el, icon } from "./dom.js";
import { messageRow, noticeRow, patchRow, pendingRow, type Actions, type Shape } from "./message.js";
import { dayNumber, dayTitle, explain } from "./text.js";

const GROUP_MS = 5 * 60_000;
const NEAR_END_PX = 48;
const NEAR_START_PX = 320;

interface Row {
  element: HTMLLIElement;
  signature: string;
  details: string;
}

/** Use puts a row into the list: an old one if its signature is the same. */
type Use = (key: string, signature: string, make: () => HTMLLIElement, details?: string, patch?: (row: HTMLLIElement) => void) => void;

export class Messages {
  readonly element: HTMLElement;
  private readonly rows = el("ol", { class: "rows", role: "list" });
  private readonly log: HTMLElement;
  private readonly toEnd: HTMLButtonElement;
  private known = new Map<string, Row>();
  private atEnd = true;
  private loading = false;
  private failed = "";
  private unborn = false;
  private newFrom = 0;
  private closed = false;

  constructor(
    private readonly client: Client,
    private readonly conversation: Conversation,
    private readonly actions: Actions,
  ) {
    this.log = el(
      "div",
      {
        class: "log",
        role: "log",
        "aria-live": "polite",
        "aria-relevant": "additions",
        "aria-label": `Messages with ${conversation.title}`,
        tabindex: 0,
        "data-test": "messages",
      },
      this.rows,
    );
    this.toEnd = el("button", { type: "button", class: "to-end", hidden: true, "data-test": "to-end", on: { click: () => this.scrollToEnd() } }, icon("down"), "Newest");
    this.element = el("div", { class: "log-frame" }, this.log, this.toEnd);
    this.log.addEventListener("scroll", () => this.scrolled(), { passive: true });
    this.newFrom = conversation.unread > 0 ? conversation.read.seq + 1 : 0;
    void this.load();
  }

  close(): void {
    this.closed = true;
  }

  /** refresh shows what has changed in the log, the outbox or the marks. */
  refresh(): void {
    const log = this.conversation.log;
    if (log && !log.loaded && !this.loading && this.conversation.head.seq > 0) void this.load();
    this.render();
    this.markRead();
  }

  /** markRead says so only for what a person can see: visible, and at the end. */
  markRead(): void {
    const log = this.conversation.log;
    if (this.closed || !log?.loaded || !this.atEnd || document.visibilityState !== "visible") return;
    this.client.markRead(this.conversation.id, log.last);
  }

  jump(seq: number): void {
    const target = this.rows.querySelector<HTMLElement>(`[data-seq="${seq}"]`);
    if (!target) return;
    target.scrollIntoView({ block: "center" });
    target.classList.remove("flash");
    requestAnimationFrame(() => target.classList.add("flash"));
  }

  scrollToEnd(): void {
    this.log.scrollTop = this.log.scrollHeight;
    this.atEnd = true;
    this.toEnd.hidden = true;
    this.markRead();
  }

  private async load(): Promise<void> {
    this.loading = true;
    this.failed = "";
    this.render();
    try {
      await this.client.open(this.conversation.id);
      this.afterLoad();
    } catch (reason) {
      const err = CallError.of(reason);
      // A direct conversation does not exist before its first message, and
      // without a connection the list will ask again once there is one.
      this.unborn = err.code === "not_found" && this.conversation.kind === "direct" && this.conversation.head.seq === 0;
      if (!this.unborn && err.code !== DISCONNECTED) this.failed = err.code;
    } finally {
      this.loading = false;
    }
    if (this.closed) return;
    this.render();
    this.scrollToEnd();
    void this.fillScreen();
  }

  private afterLoad(): void {
    const { log, kind } = this.conversation;
    if (kind !== "direct" || !log) return;
    const own = log.entries().filter((e) => e.from === this.client.me && e.kind === "message");
    const last = own[own.length - 1];
    if (last) this.client.who(this.conversation.id, last.seq).catch(() => {});
  }

  /** fillScreen loads older pages until there is something to scroll. */
  private async fillScreen(): Promise<void> {
    while (!this.closed && this.log.scrollHeight <= this.log.clientHeight + NEAR_START_PX) {
      if (!(await this.older())) return;
    }
  }

  private scrolled(): void {
    const { scrollTop, scrollHeight, clientHeight } = this.log;
    this.atEnd = scrollHeight - scrollTop - clientHeight < NEAR_END_PX;
    this.toEnd.hidden = this.atEnd;
    if (this.atEnd) this.markRead();
    if (scrollTop < NEAR_START_PX) void this.older();
  }

  private async older(): Promise<boolean> {
    const log = this.conversation.log;
    if (!log) return false;
    this.log.setAttribute("aria-busy", "true");
    try {
      return await log.older();
    } catch {
      return false; // The next scroll asks again.
    } finally {
      this.log.removeAttribute("aria-busy");
    }
  }

  private render(): void {
    if (this.closed) return;
    const list = this.compose();
    const height = this.log.scrollHeight;
    const top = this.log.scrollTop;
    const anchor = this.anchor();
    this.place(list);
    if (this.atEnd) this.log.scrollTop = this.log.scrollHeight;
    else if (anchor?.element.isConnected) this.log.scrollTop = top + anchor.element.offsetTop - anchor.top;
    else this.log.scrollTop = top + this.log.scrollHeight - height;
  }

  /** anchor is the first row in sight: it must not move when others do. */
  private anchor(): { element: HTMLElement; top: number } | undefined {
    for (const child of this.rows.children) {
      const element = child as HTMLElement;
      if (element.dataset["seq"] && element.offsetTop + element.offsetHeight > this.log.scrollTop) {
        return { element, top: element.offsetTop };
      }
    }
    return undefined;
  }

  private place(list: HTMLLIElement[]): void {
    const keep = new Set<Element>(list);
    for (const child of [...this.rows.children]) if (!keep.has(child)) child.remove();
    list.forEach((element, i) => {
      if (this.rows.children[i] !== element) this.rows.insertBefore(element, this.rows.children[i] ?? null);
    });
  }

  /** compose makes the list of rows, taking over every row that is unchanged. */
  private compose(): HTMLLIElement[] {
    const next = new Map<string, Row>();
    const list: HTMLLIElement[] = [];
    const use: Use = (key, signature, make, details = "", patch = () => {}) => {
      const old = this.known.get(key);
      const row = old?.signature === signature ? old : { element: make(), signature, details: "none" };
      if (row.details !== details) patch(row.element);
      row.details = details;
      next.set(key, row);
      list.push(row.element);
    };
    const entries = this.conversation.log?.entries() ?? [];
    this.edge(entries, use);
    this.entryRows(entries, use);
    this.pendingRows(entries, use);
    this.known = next;
    return list;
  }

  /** edge is the row above the first: loading, the beginning, or a failure. */
  private edge(entries: Entry[], use: Use): void {
    const log = this.conversation.log;
    const text = this.failed
      ? explain(this.failed)
      : !log || (!log.loaded && !this.unborn) || (log.moreBefore && entries.length > 0)
        ? "Loading…"
        : this.conversation.kind === "direct"
          ? `This is the beginning of your conversation with ${this.conversation.title}`
          : `This is the beginning of ${this.conversation.title}`;
    use("edge", text, () => {
      const row = el("li", { class: "notice edge" }, el("bdi", {}, text));
      if (this.failed) row.append(el("button", { type: "button", class: "link", on: { click: () => void this.load() } }, "Try again"));
      return row;
    });
  }

  private entryRows(entries: Entry[], use: Use): void {
    const seen = this.conversation.marks.get(this.conversation.peer);
    entries.forEach((entry, i) => {
      const before = entries[i - 1];
      const at = new Date(entry.at);
      const day = dayNumber(at);
      const newDay = !before || dayNumber(new Date(before.at)) !== day;
      if (newDay) use(`day-${day}`, dayTitle(at), () => separator("day", dayTitle(at)));
      const isNew = this.newFrom > 0 && entry.seq >= this.newFrom && (before?.seq ?? 0) < this.newFrom;
      if (isNew) use("new", "new", () => separator("new", "New"));
      if (entry.kind !== "message") {
        use(`e-${entry.seq}`, JSON.stringify(entry), () => noticeRow(entry, this.client.me));
        return;
      }
      const shape: Shape = {
        first: newDay || isNew || !joins(before, entry),
        last: !joins(entry, entries[i + 1]),
        progress: this.progress(entry, seen),
      };
      const quoted = entry.reply_to ? this.conversation.log?.entry(entry.reply_to) : undefined;
      const { body, edited_at, recalled } = entry;
      use(
        `e-${entry.seq}`,
        JSON.stringify([body, edited_at, recalled, quoted?.body, quoted?.recalled]),
        () => messageRow(this.client, this.conversation, entry, quoted, this.actions),
        JSON.stringify([shape, entry.reactions]),
        (row) => patchRow(row, this.client, entry, shape, this.actions),
      );
    });
  }

  private progress(entry: Entry, seen: { read: number; delivered: number } | undefined): string {
    if (entry.from !== this.client.me || entry.recalled) return "";
    if (seen && seen.read >= entry.seq) return "read";
    return seen && seen.delivered >= entry.seq ? "delivered" : "sent";
  }

  private pendingRows(entries: Entry[], use: Use): void {
    const last = entries[entries.length - 1];
    const follows = last?.kind === "message" && last.from === this.client.me;
    this.client.outbox.pending(this.conversation.id).forEach((item: Item, i) => {
      const first = i === 0 && !follows;
      use(`p-${item.client_id}`, JSON.stringify([item, first]), () => pendingRow(item, first, this.actions));
    });
  }
}

/** joins is true when two neighbours read as one turn of one author. */
function joins(a: Entry | undefined, b: Entry | undefined): boolean {
  if (!a || !b || a.kind !== "message" || b.kind !== "message" || a.from !== b.from) return false;
  const from = new Date(a.at);
  const to = new Date(b.at);
  return to.getTime() - from.getTime() < GROUP_MS && dayNumber(from) === dayNumber(to);
}

function separator(kind: string, text: string): HTMLLIElement {
  return el("li", { class: `separator ${kind}` }, el("span", {}, text));
}
