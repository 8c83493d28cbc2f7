// The open conversation: header, messages, who is typing, the compose box.

import { type Client, type Conversation, type Entry } from "../sdk/index.js";
import { Compose, type Draft } from "./compose.js";
import { askMember, askSure } from "./dialogs.js";
import { avatar, el, iconButton, isolated } from "./dom.js";
import { presenceDot } from "./list.js";
import { openMenu, type MenuItem } from "./menu.js";
import type { Actions } from "./message.js";
import { Messages } from "./messages.js";
import { bodyText, explain, listTime } from "./text.js";

export class Pane {
  readonly element: HTMLElement;
  private readonly messages: Messages;
  private readonly compose: Compose;
  private readonly state = el("span", { class: "subtitle" });
  private readonly title = isolated("", "title");
  private readonly typing = el("p", { class: "typing", "data-test": "typing", role: "status" });
  private readonly forbidden = el("p", { class: "readonly", hidden: true }, "Only some members may write here.");
  private readonly off: (() => void)[];
  private size = 0;
  private countedAs = 0;

  constructor(
    private readonly client: Client,
    private readonly conversation: Conversation,
    private readonly toast: (text: string) => void,
    private readonly back: () => void,
  ) {
    this.messages = new Messages(client, conversation, this.actions());
    this.compose = new Compose(
      `Message ${conversation.title}`,
      (draft) => this.send(draft),
      () => client.typing(conversation.id),
      () => this.editLast(),
    );
    this.compose.value = drafts.get(conversation.id) ?? "";
    this.element = el(
      "section",
      { class: "pane", "aria-label": conversation.title },
      this.header(),
      this.messages.element,
      this.typing,
      this.forbidden,
      this.compose.element,
    );
    this.off = [
      client.on("conversation", (id) => id === conversation.id && this.messages.refresh()),
      client.on("conversations", () => this.update()),
      client.on("presence", (user) => user === conversation.peer && this.update()),
      client.on("typing", (id) => id === conversation.id && this.update()),
    ];
    this.update();
  }

  close(): void {
    drafts.set(this.conversation.id, this.compose.value);
    for (const off of this.off) off();
    this.messages.close();
  }

  focus(): void {
    if (!this.compose.element.hidden) this.compose.focus();
  }

  /** seen is called when the window comes into view. */
  seen(): void {
    this.messages.markRead();
  }

  private header(): HTMLElement {
    const { conversation } = this;
    const back = iconButton("back", "Back to the conversations", { class: "icon-button back", "data-test": "back", on: { click: this.back } });
    const add = iconButton("people", "Members", { "data-test": "add-member", on: { click: () => this.addMember() } });
    const leave = iconButton("out", "Leave this conversation", { "data-test": "leave", on: { click: () => this.leave() } });
    return el(
      "header",
      { class: "pane-header" },
      back,
      avatar(conversation.peer || conversation.id, conversation.title, conversation.kind),
      el("div", { class: "heading" }, el("h2", {}, this.title), this.state),
      conversation.kind !== "direct" && add,
      conversation.kind !== "direct" && leave,
    );
  }

  private addMember(): void {
    const { client, conversation } = this;
    askMember(client.members(conversation.id), (user) => client.add(conversation.id, user));
  }

  private leave(): void {
    const { id, title } = this.conversation;
    askSure(`Leave ${title}?`, "You will not see what is written there from now on.", "Leave", async () => {
      await this.client.quit(id);
      this.back();
    });
  }

  private update(): void {
    const { conversation } = this;
    this.title.textContent = conversation.title;
    this.state.replaceChildren(...this.subtitle());
    const who = [...conversation.typing.keys()];
    const text = who.length === 0 ? "" : who.length === 1 ? `${who[0]} is typing…` : `${who.slice(0, 3).join(", ")} are typing…`;
    if (this.typing.textContent !== text) this.typing.textContent = text;
    this.typing.classList.toggle("active", text !== "");
    const mayPost = conversation.mayPost;
    this.forbidden.hidden = mayPost;
    this.compose.element.hidden = !mayPost;
  }

  private subtitle(): (Node | string)[] {
    const { conversation, client } = this;
    if (conversation.kind !== "direct") {
      this.count();
      const many = this.size === 0 ? "" : this.size === 1 ? " · 1 member" : ` · ${this.size} members`;
      // A channel is joined by its id; a group's means nothing to people.
      return [(conversation.kind === "group" ? "Group" : `Channel ${conversation.id.slice(2)}`) + many];
    }
    const presence = client.presence.get(conversation.peer);
    const state = presence?.state ?? "offline";
    const seen = state === "offline" && presence?.last_seen ? ` · last seen ${listTime(presence.last_seen)}` : "";
    return [presenceDot(state), el("span", { "aria-hidden": "true" }, state), seen];
  }

  /** count asks how many members there are, once for each change of them. */
  private count(): void {
    const { client, conversation } = this;
    const as = conversation.tail?.kind === "member" ? conversation.tail.seq : this.countedAs || conversation.tail?.seq;
    if (!client.connection.online || !as || as === this.countedAs) return;
    this.countedAs = as;
    client.size(conversation.id).then(
      (size) => {
        this.size = size;
        this.update();
      },
      () => (this.countedAs = 0),
    );
  }

  private send(draft: Draft): void {
    const { client, conversation } = this;
    if (draft.edit) {
      client.edit(conversation.id, draft.edit, { text: draft.text });
    } else {
      client.post(conversation.id, { text: draft.text }, draft.replyTo);
      this.messages.scrollToEnd();
    }
  }

  private editLast(): void {
    const entries = this.conversation.log?.entries() ?? [];
    for (let i = entries.length - 1; i >= 0; i--) {
      const entry = entries[i]!;
      if (entry.kind !== "message" || entry.from !== this.client.me || entry.recalled) continue;
      return this.compose.edit(entry.seq, bodyText(entry));
    }
  }

  private actions(): Actions {
    const { client, conversation } = this;
    return {
      menu: (seq, button) => {
        const entry = conversation.log?.entry(seq);
        if (entry) openMenu(button, (emoji) => this.react(entry, emoji), this.menuItems(entry));
      },
      react: (seq, emoji, remove) => void client.react(conversation.id, seq, emoji, remove),
      jump: (seq) => this.messages.jump(seq),
      retry: (item) => client.outbox.retry(item.client_id),
      discard: (item) => client.outbox.discard(item.client_id),
    };
  }

  private react(entry: Entry, emoji: string): void {
    const mine = entry.reactions?.[emoji]?.includes(this.client.me) ?? false;
    this.client.react(this.conversation.id, entry.seq, emoji, mine);
  }

  private menuItems(entry: Entry): MenuItem[] {
    const { client, conversation } = this;
    const items: MenuItem[] = [
      { label: "Reply", test: "reply", run: () => this.compose.reply(entry.seq, entry.from, bodyText(entry)) },
      { label: "Copy text", test: "copy", run: () => this.copy(entry) },
    ];
    if (entry.from !== client.me) return items;
    return [
      ...items,
      { label: "Edit", test: "edit", run: () => this.compose.edit(entry.seq, bodyText(entry)) },
      { label: "Delete", test: "recall", danger: true, run: () => void client.recall(conversation.id, entry.seq) },
    ];
  }

  private copy(entry: Entry): void {
    // The clipboard exists in secure contexts only.
    if (!navigator.clipboard) return this.toast("The browser does not let this page copy.");
    navigator.clipboard.writeText(bodyText(entry)).then(
      () => this.toast("Copied."),
      (reason) => this.toast(explain(reason)),
    );
  }
}

/** What was written and not sent, for as long as the page lives. */
const drafts = new Map<string, string>();
