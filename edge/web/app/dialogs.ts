// The dialogs: a direct conversation, a group, a channel, one more member.

import type { Member } from "../sdk/index.js";
import { avatar, el, field, isolated, type Attributes } from "./dom.js";
import { explain } from "./text.js";

interface Question {
  title: string;
  text: string;
  confirm: string;
  /** What stands between the text and the fields. */
  above?: HTMLElement;
  fields: { label: string; hint?: string; attributes: Attributes & { name: string } }[];
  run(values: Record<string, string>): Promise<void> | void;
}

/** ask opens a modal dialog and closes it when run has succeeded. */
function ask(question: Question): void {
  const error = el("p", { class: "error", role: "alert" });
  const confirm = el("button", { type: "submit", class: "button primary", "data-test": "confirm" }, question.confirm);
  const cancel = el("button", { type: "button", class: "button", "data-test": "cancel" }, "Cancel");
  const inputs = question.fields.map((f) => field(f.label, { autocomplete: "off", ...f.attributes }, f.hint));
  const form = el(
    "form",
    {},
    el("h2", { id: "dialog-title" }, question.title),
    el("p", { class: "lead" }, question.text),
    question.above,
    ...inputs,
    error,
    el("div", { class: "buttons" }, cancel, confirm),
  );
  const dialog = el("dialog", { class: "dialog", "aria-labelledby": "dialog-title", "data-test": "dialog" }, form);
  cancel.addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => dialog.remove());
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    void answer(question, new FormData(form), dialog, error, confirm);
  });
  document.body.append(dialog);
  dialog.showModal();
  (inputs[0]?.querySelector("input") ?? confirm).focus();
}

async function answer(question: Question, data: FormData, dialog: HTMLDialogElement, error: HTMLElement, confirm: HTMLButtonElement): Promise<void> {
  const values: Record<string, string> = {};
  for (const [name, value] of data) values[name] = String(value).trim();
  confirm.disabled = true;
  error.textContent = "";
  try {
    await question.run(values);
    dialog.close();
  } catch (reason) {
    error.textContent = reason instanceof Invalid ? reason.message : explain(reason);
  } finally {
    confirm.disabled = false;
  }
}

class Invalid extends Error {}

const ID = /^[a-z0-9][a-z0-9_-]{0,62}$/;

function handle(text: string): string {
  const name = text.replace(/^@/, "").toLowerCase();
  if (!ID.test(name)) throw new Invalid("A user name is lower-case letters, digits, - and _.");
  return name;
}

const USER = { autocapitalize: "none", spellcheck: "false", maxlength: 64 };

export function askDirect(me: string, open: (user: string) => void): void {
  ask({
    title: "New conversation",
    text: "Write to one person.",
    confirm: "Open",
    fields: [{ label: "User name", attributes: { name: "user", "data-test": "direct-user", placeholder: "ada", ...USER } }],
    run: ({ user = "" }) => {
      const name = handle(user);
      if (name === me) throw new Invalid("That is you. Choose somebody else.");
      open(name);
    },
  });
}

export function askGroup(create: (title: string, members: string[]) => Promise<void>): void {
  ask({
    title: "New group",
    text: "Everybody in a group can write.",
    confirm: "Create",
    fields: [
      { label: "Title", attributes: { name: "title", "data-test": "group-title", maxlength: 100, placeholder: "Weekend plans" } },
      { label: "Members", hint: "user names, separated by commas", attributes: { name: "members", "data-test": "group-members", autocapitalize: "none", spellcheck: "false", placeholder: "ada, bob" } },
    ],
    run: ({ title = "", members = "" }) => {
      if (!title) throw new Invalid("Please give the group a title.");
      return create(title, members.split(/[\s,]+/).filter(Boolean).map(handle));
    },
  });
}

export function askChannel(join: (conversation: string) => Promise<void>): void {
  ask({
    title: "Join a channel",
    text: "Few write in a channel; any number may read.",
    confirm: "Join",
    fields: [{ label: "Channel", attributes: { name: "channel", "data-test": "channel-id", placeholder: "news", ...USER } }],
    run: ({ channel = "" }) => {
      const id = channel.toLowerCase().replace(/^#|^c\./, "");
      if (!ID.test(id)) throw new Invalid("A channel's name is lower-case letters, digits, - and _.");
      return join(`c.${id}`);
    },
  });
}

/** askMember shows who is in, and asks for one more. */
export function askMember(load: Promise<{ members: Member[]; more: boolean }>, add: (user: string) => Promise<void>): void {
  const list = el("ul", { class: "members", role: "list", "aria-label": "Members", "data-test": "members", tabindex: 0 }, el("li", {}, "Loading…"));
  load.then(
    ({ members, more }) => list.replaceChildren(...members.map(memberRow), ...(more ? [el("li", {}, "… and more")] : [])),
    (reason) => list.replaceChildren(el("li", { class: "error" }, explain(reason))),
  );
  ask({
    title: "Members",
    text: "New members see the conversation from now on.",
    confirm: "Add",
    above: list,
    fields: [{ label: "Add a member", hint: "user name", attributes: { name: "user", "data-test": "member-user", ...USER } }],
    run: ({ user = "" }) => add(handle(user)),
  });
}

function memberRow({ user, role }: Member): HTMLLIElement {
  return el("li", {}, avatar(user, user), isolated(user, "title"), el("span", { class: "hint" }, role === "member" ? "" : role));
}

export function askSure(title: string, text: string, confirm: string, run: () => Promise<void> | void): void {
  ask({ title, text, confirm, fields: [], run });
}
