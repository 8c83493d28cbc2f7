// The chat: the list beside the open conversation, or one of both on a phone.

import { type Client, type ConversationID } from "../sdk/index.js";
import { Banner } from "./banner.js";
import { fragment } from "./browser.js";
import { askChannel, askDirect, askGroup, askSure } from "./dialogs.js";
import { avatar, el, icon, iconButton, isolated } from "./dom.js";
import { ConversationList } from "./list.js";
import { Pane } from "./pane.js";
import { explain } from "./text.js";

const TOAST_MS = 5_000;

export class Chat {
  private readonly list: ConversationList;
  private readonly main = el("main", { class: "main" });
  private readonly toasts = el("div", { class: "toasts", role: "status", "aria-live": "polite" });
  private readonly shell: HTMLElement;
  private readonly stopListening = new AbortController();
  private pane: Pane | undefined;
  private current: ConversationID = "";

  constructor(
    root: HTMLElement,
    private readonly client: Client,
  ) {
    this.list = new ConversationList(client, (id) => this.go(id));
    const banner = new Banner(client);
    this.main.append(this.empty());
    this.shell = el(
      "div",
      { class: "shell" },
      el("div", { class: "sidebar" }, this.header(), this.list.element, this.footer()),
      this.main,
      banner.element,
      this.toasts,
    );
    root.replaceChildren(this.shell);
    client.on("conversations", () => this.conversationsChanged());
    client.on("failed", (item) => item.call !== "send.post" && this.failed(item.client_id, item.error ?? ""));
    this.listen();
    this.open(fragment().conversation ?? "");
  }

  /** close takes the chat apart; the client is stopped by whoever made it. */
  close(): void {
    this.pane?.close();
    this.stopListening.abort();
    document.title = "confab";
  }

  private listen(): void {
    const signal = this.stopListening.signal;
    window.addEventListener("hashchange", () => this.open(fragment().conversation ?? ""), { signal });
    window.addEventListener("online", () => this.client.connection.wake(), { signal });
    window.addEventListener("focus", () => this.pane?.seen(), { signal });
    document.addEventListener(
      "visibilitychange",
      () => {
        if (document.visibilityState !== "visible") return;
        this.client.connection.wake();
        this.pane?.seen();
      },
      { signal },
    );
  }

  private header(): HTMLElement {
    return el(
      "header",
      { class: "sidebar-header" },
      el("h1", { class: "wordmark" }, el("span", { class: "logo" }, icon("talk")), "confab"),
      iconButton("write", "New conversation", {
        "data-test": "new-direct",
        on: { click: () => askDirect(this.client.me, (user) => this.go(this.client.openDirect(user))) },
      }),
      iconButton("people", "New group", {
        "data-test": "new-group",
        on: { click: () => askGroup(async (title, members) => this.go(await this.client.create(title, members))) },
      }),
      iconButton("channel", "Join a channel", {
        "data-test": "join-channel",
        on: { click: () => askChannel((id) => this.client.join(id).then(() => this.go(id))) },
      }),
    );
  }

  private footer(): HTMLElement {
    const { me } = this.client;
    return el(
      "footer",
      { class: "sidebar-footer" },
      avatar(me, me),
      el("span", { class: "me" }, isolated(me, "title"), el("span", { class: "subtitle" }, "Signed in")),
      iconButton("out", "Sign out", { "data-test": "sign-out", on: { click: () => this.signOut() } }),
    );
  }

  private signOut(): void {
    const unsent = this.client.outbox.size;
    if (unsent === 0) return void this.client.signOut();
    const text = unsent === 1 ? "One message has not been sent and will be lost." : `${unsent} messages have not been sent and will be lost.`;
    askSure("Sign out?", text, "Sign out", () => this.client.signOut());
  }

  private empty(): HTMLElement {
    return el(
      "div",
      { class: "empty" },
      el("span", { class: "empty-mark" }, icon("talk")),
      el("h2", {}, "Choose a conversation"),
      el("p", {}, "Or begin a new one with the buttons above the list."),
    );
  }

  /** go changes the address; the open conversation follows it. */
  private go(id: ConversationID): void {
    const hash = id ? `#/${encodeURIComponent(id)}` : "#/";
    if (location.hash === hash) this.open(id);
    else location.hash = hash;
  }

  private open(id: ConversationID): void {
    const valid = /^(d\.[a-z0-9_-]+\.[a-z0-9_-]+|[gc]\.[a-z0-9_-]+)$/.test(id) ? id : "";
    if (valid && valid === this.current) return this.pane?.focus();
    this.pane?.close();
    this.pane = undefined;
    this.current = valid;
    this.shell.classList.toggle("has-open", valid !== "");
    if (valid) {
      this.pane = new Pane(this.client, this.client.conversation(valid), (text) => this.toast(text), () => this.go(""));
      this.main.replaceChildren(this.pane.element);
      this.pane.focus();
    } else {
      this.main.replaceChildren(this.empty());
    }
    this.list.select(valid);
  }

  private conversationsChanged(): void {
    let unread = 0;
    for (const conversation of this.client.conversations.values()) unread += conversation.unread;
    document.title = unread > 0 ? `(${unread}) confab` : "confab";
    if (this.current && this.client.listed && !this.client.conversations.has(this.current)) {
      this.toast("You are no longer in that conversation.");
      this.go("");
    }
  }

  /** A change that was refused is said once and dropped; a message stays in view. */
  private failed(clientID: string, code: string): void {
    this.client.outbox.discard(clientID);
    this.toast(explain(code));
  }

  private toast(text: string): void {
    const toast = el("p", { class: "toast" }, text);
    this.toasts.append(toast);
    setTimeout(() => toast.remove(), TOAST_MS);
  }
}
