// One row of the message view.

import { type Client, type Conversation, type Entry, type Item } from "../sdk/index.js";
import { avatar, el, icon, iconButton, isolated } from "./dom.js";
import { bodyText, clockTime, explain, fullTime, membership, richText, settings } from "./text.js";

/** Actions are what a row can ask for; the view carries them out. */
export interface Actions {
  menu(seq: number, button: HTMLElement): void;
  react(seq: number, emoji: string, remove: boolean): void;
  jump(seq: number): void;
  retry(item: Item): void;
  discard(item: Item): void;
}

/** Shape is what neighbours decide about a row. */
export interface Shape {
  first: boolean;
  last: boolean;
  /** sent, delivered or read; "" for messages of others. */
  progress: string;
}

/**
 * messageRow is what stays of a message as long as its text does. The rest is put
 * in by patchRow: a row that is made anew would be read out again.
 */
export function messageRow(client: Client, conversation: Conversation, entry: Entry, quoted: Entry | undefined, actions: Actions): HTMLLIElement {
  const own = entry.from === client.me;
  const more = !entry.recalled && iconButton("more", "Message actions", { class: "icon-button more", "aria-haspopup": "menu", "aria-expanded": "false" });
  if (more) more.addEventListener("click", () => actions.menu(entry.seq, more));
  return el(
    "li",
    // Who wrote a message need not be told of it.
    { "data-seq": entry.seq, "data-from": entry.from, "data-state": "stored", "aria-live": own ? "off" : undefined },
    !own && el("span", { class: "gutter" }, avatar(entry.from, entry.from)),
    el(
      "div",
      { class: "stack" },
      own ? el("span", { class: "only-heard" }, "You") : isolated(entry.from, conversation.kind === "direct" ? "only-heard" : "author"),
      el(
        "div",
        { class: "bubble-line" },
        el(
          "div",
          { class: entry.recalled ? "bubble recalled" : "bubble" },
          entry.reply_to !== undefined && quote(entry.reply_to, quoted, actions),
          textOf(entry),
          meta(entry, own),
        ),
        more,
      ),
    ),
  );
}

/** patchRow brings what may change without a change of the text up to date. */
export function patchRow(row: HTMLLIElement, client: Client, entry: Entry, shape: Shape, actions: Actions): void {
  const own = entry.from === client.me;
  row.className = ["message", own ? "own" : "other", shape.first && "first", shape.last && "last"].filter(Boolean).join(" ");
  const progress = row.querySelector<HTMLElement>(".progress");
  if (progress && progress.dataset["state"] !== shape.progress) markProgress(progress, shape.progress);
  row.querySelector(".reactions")?.remove();
  const chips = reactions(client, entry, actions);
  if (chips) row.querySelector(".stack")!.append(chips);
}

function textOf(entry: Entry): HTMLElement {
  if (entry.recalled) return el("p", { class: "text" }, "This message was deleted");
  return el("p", { class: "text", dir: "auto" }, richText(bodyText(entry)));
}

function meta(entry: Entry, own: boolean): HTMLElement {
  return el(
    "span",
    { class: "meta" },
    entry.edited_at && !entry.recalled && el("span", { title: fullTime(entry.edited_at) }, "edited"),
    el("time", { datetime: entry.at, title: fullTime(entry.at) }, clockTime(entry.at)),
    own && !entry.recalled && el("span", { role: "img", "data-test": "progress", class: "progress" }),
  );
}

function markProgress(element: HTMLElement, state: string): void {
  const label = state === "read" ? "Read" : state === "delivered" ? "Delivered" : "Sent";
  element.className = `progress ${state}`;
  element.dataset["state"] = state;
  element.title = label;
  element.setAttribute("aria-label", label);
  element.replaceChildren(icon(state === "sent" ? "check" : "checks"));
}

function quote(seq: number, quoted: Entry | undefined, actions: Actions): HTMLElement {
  const text = !quoted ? "An earlier message" : quoted.recalled ? "A deleted message" : bodyText(quoted).slice(0, 200);
  return el(
    "button",
    { type: "button", class: "quote", "aria-label": "Go to the quoted message", on: { click: () => actions.jump(seq) } },
    quoted && isolated(quoted.from, "quote-author"),
    isolated(text, "quote-text"),
  );
}

function reactions(client: Client, entry: Entry, actions: Actions): HTMLElement | null {
  const all = Object.entries(entry.reactions ?? {}).filter(([, users]) => users.length > 0);
  if (all.length === 0) return null;
  return el(
    "div",
    { class: "reactions" },
    ...all.map(([emoji, users]) => {
      const mine = users.includes(client.me);
      return el(
        "button",
        {
          type: "button",
          class: "reaction",
          "aria-pressed": String(mine),
          "aria-label": `${emoji} by ${users.join(", ")}`,
          title: users.join(", "),
          on: { click: () => actions.react(entry.seq, emoji, mine) },
        },
        isolated(emoji),
        el("span", {}, String(users.length)),
      );
    }),
  );
}

/** pendingRow is a message that the server has not confirmed. */
export function pendingRow(item: Item, first: boolean, actions: Actions): HTMLLIElement {
  const failed = item.state === "failed";
  const text = typeof item.data.body?.text === "string" ? item.data.body.text : "";
  return el(
    "li",
    {
      class: `message own last ${first ? "first " : ""}${failed ? "failed" : "pending"}`,
      "data-client-id": item.client_id,
      "data-state": item.state,
      "aria-live": "off",
    },
    el(
      "div",
      { class: "stack" },
      el(
        "div",
        { class: "bubble-line" },
        el(
          "div",
          { class: "bubble" },
          el("p", { class: "text", dir: "auto" }, richText(text)),
          el(
            "span",
            { class: "meta" },
            el("span", { class: "only-heard" }, failed ? "Not sent" : "Sending"),
            icon(failed ? "alert" : "clock"),
          ),
        ),
      ),
      failed &&
        el(
          "div",
          { class: "failure", role: "alert" },
          el("span", {}, `Not sent. ${explain(item.error ?? "")}`),
          el("button", { type: "button", class: "link", "data-test": "retry", on: { click: () => actions.retry(item) } }, "Try again"),
          el("button", { type: "button", class: "link", "data-test": "discard", on: { click: () => actions.discard(item) } }, "Discard"),
        ),
    ),
  );
}

/** noticeRow is something that happened to the conversation itself. */
export function noticeRow(entry: Entry, me: string): HTMLLIElement {
  const text = entry.kind === "member" ? membership(entry, me) : settings(entry, me);
  return el("li", { class: "notice", "data-seq": entry.seq, "data-from": entry.from }, el("bdi", {}, text));
}
