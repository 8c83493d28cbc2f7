// One row of the message view.

import { type Client, type Conversation, type Entry, type Item } from "../sdk/index.js";
import { avatar, el, icon, iconButton, isolated, type Child } from "./dom.js";
import { bodyText, clockTime, explain, fullTime, membership, richText } from "./text.js";

/** Actions are what a row can ask for; the view carries them out. */
export interface Actions {
  menu(entry: Entry, button: HTMLElement): void;
  react(entry: Entry, emoji: string, remove: boolean): void;
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
  quote: Entry | undefined;
}

export function messageRow(client: Client, conversation: Conversation, entry: Entry, shape: Shape, actions: Actions): HTMLLIElement {
  const own = entry.from === client.me;
  const classes = ["message", own ? "own" : "other", shape.first ? "first" : "", shape.last ? "last" : ""];
  const showAuthor = shape.first && !own && conversation.kind !== "direct";
  const more = !entry.recalled && iconButton("more", "Message actions", { class: "icon-button more", "aria-haspopup": "menu", "aria-expanded": "false" });
  if (more) more.addEventListener("click", () => actions.menu(entry, more));
  return el(
    "li",
    { class: classes.filter(Boolean).join(" "), "data-seq": entry.seq, "data-from": entry.from, "data-state": "stored" },
    !own && el("span", { class: "gutter" }, shape.last && avatar(entry.from, entry.from)),
    el(
      "div",
      { class: "stack" },
      showAuthor && isolated(entry.from, "author"),
      el(
        "div",
        { class: "bubble-line" },
        el(
          "div",
          { class: entry.recalled ? "bubble recalled" : "bubble" },
          own ? el("span", { class: "only-heard" }, "You: ") : !showAuthor && el("span", { class: "only-heard" }, `${entry.from}: `),
          entry.reply_to !== undefined && quote(entry.reply_to, shape.quote, actions),
          textOf(entry),
          meta(entry, shape.progress),
        ),
        more,
      ),
      reactions(client, entry, actions),
    ),
  );
}

function textOf(entry: Entry): HTMLElement {
  if (entry.recalled) return el("p", { class: "text" }, "This message was deleted");
  return el("p", { class: "text", dir: "auto" }, richText(bodyText(entry)));
}

function meta(entry: Entry, progress: string): HTMLElement {
  return el(
    "span",
    { class: "meta" },
    entry.edited_at && !entry.recalled && el("span", { title: fullTime(entry.edited_at) }, "edited"),
    el("time", { datetime: entry.at, title: fullTime(entry.at) }, clockTime(entry.at)),
    progress && progressMark(progress),
  );
}

function progressMark(progress: string): HTMLElement {
  const label = progress === "read" ? "Read" : progress === "delivered" ? "Delivered" : "Sent";
  return el(
    "span",
    { class: `progress ${progress}`, "data-test": "progress", "data-state": progress, title: label },
    icon(progress === "sent" ? "check" : "checks"),
    el("span", { class: "only-heard" }, label),
  );
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

function reactions(client: Client, entry: Entry, actions: Actions): Child {
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
          on: { click: () => actions.react(entry, emoji, mine) },
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
  const text = entry.kind === "member" ? membership(entry, me) : `${entry.from} changed the settings`;
  return el("li", { class: "notice", "data-seq": entry.seq, "data-from": entry.from }, el("bdi", {}, text));
}
