// The list of conversations: who, the last words, when, how many unread.

import { type Client, type Conversation, type ConversationID } from "../sdk/index.js";
import { arrowKeys, avatar, el, icon, isolated } from "./dom.js";
import { listTime, preview } from "./text.js";

export class ConversationList {
  readonly element: HTMLElement;
  private readonly items = el("ul", { class: "conversations", role: "list", "data-test": "conversations", "aria-label": "Conversations" });
  private readonly filter = el("input", { type: "search", placeholder: "Search", "aria-label": "Search conversations", dir: "auto" });
  private readonly rows = new Map<ConversationID, { row: HTMLLIElement; signature: string }>();
  private current: ConversationID = "";

  constructor(
    private readonly client: Client,
    private readonly choose: (id: ConversationID) => void,
  ) {
    this.filter.addEventListener("input", () => this.render());
    arrowKeys(this.items, "button");
    this.element = el(
      "nav",
      { class: "list", "aria-label": "Conversations" },
      el("label", { class: "search" }, icon("search"), this.filter),
      this.items,
    );
    client.on("conversations", () => this.render());
    client.on("presence", () => this.render());
    client.on("typing", () => this.render());
    this.render();
  }

  select(id: ConversationID): void {
    this.current = id;
    this.render();
  }

  /** render keeps every row that looks the same, so focus and taps survive. */
  render(): void {
    const words = this.filter.value.trim().toLowerCase();
    const shown = this.client.sorted().filter((c) => !words || c.title.toLowerCase().includes(words) || c.id.includes(words));
    const elements = shown.map((conversation) => this.row(conversation));
    for (const id of this.rows.keys()) if (!this.client.conversations.has(id)) this.rows.delete(id);
    if (elements.length === 0) elements.push(el("li", { class: "nothing" }, this.emptyText(words)));
    const focused = this.items.contains(document.activeElement) ? (document.activeElement as HTMLElement) : null;
    const id = focused?.closest("li")?.dataset["conversation"];
    elements.forEach((element, i) => {
      if (this.items.children[i] !== element) this.items.insertBefore(element, this.items.children[i] ?? null);
    });
    while (this.items.children.length > elements.length) this.items.lastElementChild!.remove();
    if (id && document.activeElement !== focused) this.rows.get(id)?.row.querySelector("button")?.focus();
  }

  private emptyText(words: string): string {
    if (words) return "Nothing found.";
    return this.client.listed ? "No conversations yet. Begin one above." : "Loading…";
  }

  private row(conversation: Conversation): HTMLLIElement {
    const typing = [...conversation.typing.keys()].join(", ");
    const line = typing ? (conversation.kind === "direct" ? "typing…" : `${typing} typing…`) : preview(conversation, this.client.me);
    const time = listTime(conversation.at);
    const state = conversation.peer ? (this.client.presence.get(conversation.peer)?.state ?? "offline") : "";
    const current = conversation.id === this.current;
    const signature = JSON.stringify([conversation.title, line, time, conversation.unread, state, current, !!typing]);
    const known = this.rows.get(conversation.id);
    if (known?.signature === signature) return known.row;
    const row = known?.row ?? el("li", { "data-conversation": conversation.id });
    const hadFocus = row.contains(document.activeElement);
    row.replaceChildren(this.button(conversation, line, time, state, current, typing !== ""));
    if (hadFocus) row.querySelector("button")?.focus();
    this.rows.set(conversation.id, { row, signature });
    return row;
  }

  private button(c: Conversation, line: string, time: string, state: string, current: boolean, typing: boolean): HTMLElement {
    const unread = c.unread;
    return el(
      "button",
      {
        type: "button",
        class: unread > 0 ? "conversation has-unread" : "conversation",
        "aria-current": current ? "true" : undefined,
        on: { click: () => this.choose(c.id) },
      },
      el("span", { class: "portrait" }, avatar(c.peer || c.id, c.title, c.kind), state && presenceDot(state)),
      el(
        "span",
        { class: "summary" },
        el("span", { class: "line" }, isolated(c.title, "title"), el("time", { datetime: c.at }, c.preview ? time : "")),
        el(
          "span",
          { class: "line" },
          isolated(line, typing ? "preview typing-now" : "preview"),
          unread > 0 &&
            el(
              "span",
              { class: "badge", "data-test": "unread" },
              unread > 999 ? "999+" : String(unread),
              el("span", { class: "only-heard" }, " unread"),
            ),
        ),
      ),
    );
  }
}

/** presenceDot says a state by colour and shape, and in words for a reader. */
export function presenceDot(state: string): HTMLElement {
  return el(
    "span",
    { class: `presence ${state}`, "data-test": "presence", "data-state": state, title: state },
    el("span", { class: "only-heard" }, state),
  );
}
