// Words and times as people read them, and message text made inert.

import { CallError, type Conversation, type Entry } from "../sdk/index.js";
import { el } from "./dom.js";

/** Bidirectional controls have no place in an address. */
const LINK = /https?:\/\/[^\s<>"'\u200e\u200f\u202a-\u202e\u2066-\u2069]+/gi;
const TRAILING = /[.,;:!?)\]}]+$/;

/** richText turns http and https addresses into links; all else stays text. */
export function richText(text: string): DocumentFragment {
  const fragment = document.createDocumentFragment();
  let end = 0;
  for (const match of text.matchAll(LINK)) {
    const address = match[0].replace(TRAILING, "");
    const url = parse(address);
    if (!url) continue;
    fragment.append(text.slice(end, match.index), link(url, address));
    end = match.index! + address.length;
  }
  fragment.append(text.slice(end));
  return fragment;
}

function parse(address: string): URL | undefined {
  try {
    const url = new URL(address);
    return url.protocol === "http:" || url.protocol === "https:" ? url : undefined;
  } catch {
    return undefined;
  }
}

function link(url: URL, shown: string): HTMLAnchorElement {
  return el("a", { href: url.href, target: "_blank", rel: "noopener noreferrer nofollow", dir: "ltr" }, shown);
}

/** bodyText is the text of a message; other bodies are named, not shown. */
export function bodyText(entry: Entry): string {
  const text = entry.body?.text;
  return typeof text === "string" ? text : "[a message of another kind]";
}

/** membership says what a member entry says, in words. */
export function membership(entry: Entry, me: string): string {
  const body = entry.body ?? {};
  const who = String(body["user"] ?? entry.from);
  const by = String(body["by"] ?? entry.from);
  const name = who === me ? "You" : who;
  const were = who === me ? "were" : "was";
  switch (body["change"]) {
    case "joined":
      return `${name} joined`;
    case "left":
      return `${name} left`;
    case "added":
      return by === who ? `${name} joined` : `${name} ${were} added by ${by}`;
    case "removed":
      return `${name} ${were} removed by ${by}`;
    case "banned":
      return `${name} ${were} banned by ${by}`;
    case "unbanned":
      return `${name} may come back`;
    case "role":
      return `${name} ${who === me ? "are" : "is"} now ${String(body["role"] ?? "another role")}`;
    default:
      return `The members changed`;
  }
}

/** settings says what a policy entry says, in words; the first one made the conversation. */
export function settings(entry: Entry, me: string): string {
  const who = entry.from === me ? "You" : entry.from;
  const title = entry.body?.["title"];
  if (entry.seq === 1) return `${who} began this conversation`;
  return typeof title === "string" ? `${who} changed the title to “${title}”` : `${who} changed the settings`;
}

/** preview is the line that a list shows below a title. */
export function preview(conversation: Conversation, me: string): string {
  const entry = conversation.preview;
  if (!entry) return "No messages yet";
  const author = entry.from === me ? "You: " : conversation.kind === "direct" ? "" : `${entry.from}: `;
  switch (entry.kind) {
    case "message":
      return author + (entry.recalled ? "deleted a message" : bodyText(entry).replace(/\s+/g, " ").slice(0, 160));
    case "member":
      return membership(entry, me);
    case "reaction":
      return `${author}reacted ${String(entry.body?.["emoji"] ?? "")}`;
    case "edit":
      return author + (entry.body ? bodyText(entry) : "edited a message");
    case "recall":
      return `${author}deleted a message`;
    case "policy":
      return settings(entry, me);
    default:
      return `${author}pinned a message`;
  }
}

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const weekday = new Intl.DateTimeFormat(undefined, { weekday: "short" });
const short = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
const long = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long", year: "numeric" });
const full = new Intl.DateTimeFormat(undefined, { dateStyle: "long", timeStyle: "medium" });

/** dayNumber counts local days, so that two times of one day compare equal. */
export function dayNumber(at: Date): number {
  return Math.floor((at.getTime() - at.getTimezoneOffset() * 60_000) / 86_400_000);
}

export function clockTime(at: string): string {
  const date = new Date(at);
  return Number.isNaN(date.getTime()) ? "" : clock.format(date);
}

export function fullTime(at: string): string {
  const date = new Date(at);
  return Number.isNaN(date.getTime()) ? "" : full.format(date);
}

/** listTime is a clock time today, a weekday this week, and a date before. */
export function listTime(at: string, now = new Date()): string {
  const date = new Date(at);
  if (Number.isNaN(date.getTime())) return "";
  const days = dayNumber(now) - dayNumber(date);
  if (days <= 0) return clock.format(date);
  if (days === 1) return "Yesterday";
  return days < 7 ? weekday.format(date) : short.format(date);
}

export function dayTitle(at: Date, now = new Date()): string {
  const days = dayNumber(now) - dayNumber(at);
  if (days === 0) return "Today";
  return days === 1 ? "Yesterday" : long.format(at);
}

const REASONS: Record<string, string> = {
  unauthenticated: "User name or password is wrong.",
  forbidden: "You may not do that here.",
  not_found: "There is no such user or conversation.",
  conflict: "That name is taken already.",
  bad_id: "Names are lower-case letters, digits, - and _.",
  bad_data: "Something in there is missing or not valid.",
  too_large: "The message is too long.",
  gone: "That has been erased.",
  rate_limited: "Too many tries. Please wait a moment.",
  id_conflict: "Another message was sent under the same id.",
  retry_window_expired: "It waited too long. Please send it again.",
  token_expired: "Your session has expired. Please sign in again.",
  unknown_call: "This server does not offer that.",
  disconnected: "There is no connection to the server.",
};

/**
 * explain turns a CallError into a sentence for the person who waits. Only for
 * bad_data does the server know better what is wrong.
 */
export function explain(reason: unknown): string {
  if (reason instanceof CallError && reason.code === "bad_data" && reason.message !== reason.code) return reason.message;
  const code = typeof reason === "string" ? reason : CallError.of(reason).code;
  return REASONS[code] ?? "The server could not do that now. Please try again.";
}
