// The function poll. A poll is a message whose body says what is asked; a vote is a reaction to it. So nothing is stored but the conversation itself, members see
// polls in every client, and who may vote is who may react.
//
//   poll.open     posts a poll in the caller's name
//   poll.results  counts the votes of a poll that the caller can read
//   an event      a message such as "/poll Lunch? | noodles | soup" opens a poll in its author's name
import { createHash } from "node:crypto";
import { Refusal } from "./confab/main.js";

const signs = ["1️⃣", "2️⃣", "3️⃣", "4️⃣", "5️⃣", "6️⃣", "7️⃣", "8️⃣", "9️⃣"];

export const poll = {
  name: "poll",
  description: "Polls in conversations",
  version: "1.0.0",
  methods: {
    open: { public: true, idempotent: true, timeout: 5_000, handle: open },
    results: { public: true, idempotent: true, timeout: 5_000, handle: results },
  },
  events: { kinds: ["message"], handle: command },
};

// open: {conversation, client_id, question, options} → the answer of send.post. Whether the caller may post there is for send to decide.
function open(call, { conversation, client_id, question, options }) {
  const ask = { question: line(question, "question"), options: list(options) };
  return call.ask("send.post", { conversation, client_id, body: bodyOf(ask) });
}

// results: {conversation, seq} → {question, options: [{sign, text, voters}]}. Whether the caller may read that is for history to decide.
async function results(call, { conversation, seq }) {
  if (!Number.isSafeInteger(seq) || seq < 1) throw new Refusal("bad_data", "seq must be the seq of a poll.");
  const { entries } = await call.ask("history.page", { conversation, after: seq - 1, limit: 1 });
  const [entry] = entries;
  const asked = entry?.seq === seq ? entry.body?.poll : undefined;
  if (typeof asked?.question !== "string" || !Array.isArray(asked.options)) throw new Refusal("not_found", "There is no poll.");
  const votes = entry.reactions ?? {};
  return { question: asked.question, options: asked.options.slice(0, signs.length).map((text, i) => ({ sign: signs[i], text, voters: votes[signs[i]] ?? [] })) };
}

// command opens the poll that a message asks for. An event comes at least once, so what it does must be the same at the second time: the client id follows from
// the entry, and send stores one post under it.
async function command(call, entry) {
  const text = entry.body?.text;
  if (typeof text !== "string" || !text.startsWith("/poll ")) return;
  const [question, ...options] = text.slice("/poll ".length).split("|").map((part) => part.trim());
  if (!question || options.length < 2 || options.length > signs.length || options.includes("")) return; // no poll: just words
  const { conversation, seq } = entry;
  const author = call.as(entry.from);
  const post = { conversation, client_id: idOf(entry), reply_to: seq, body: bodyOf({ question, options }) };
  try {
    await author.ask("send.post", post);
  } catch (error) {
    if (error.code !== "retry_window_expired") throw error;
    // The entry is older than the time in which send knows what it has stored: look, and post under a new id only if it is not there.
    const { entries } = await author.ask("history.page", { conversation, after: seq, limit: 200 });
    if (!entries.some((e) => e.client_id === post.client_id)) await author.ask("send.post", { ...post, client_id: idOf(entry, Date.now()) });
  }
}

function bodyOf(asked) {
  return { text: [asked.question, ...asked.options.map((option, i) => `${signs[i]} ${option}`)].join("\n"), poll: asked };
}

// idOf returns a UUIDv7 that is the same for each delivery of an entry: its time is that of the entry, the rest a hash of its place.
function idOf({ conversation, seq, at }, time = Date.parse(at)) {
  const bytes = createHash("sha256").update(`poll ${conversation} ${seq}`).digest().subarray(0, 16);
  bytes.writeUIntBE(time, 0, 6);
  bytes[6] = 0x70 | (bytes[6] & 0x0f);
  bytes[8] = 0x80 | (bytes[8] & 0x3f);
  return bytes.toString("hex").replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

function list(options) {
  if (!Array.isArray(options) || options.length < 2 || options.length > signs.length) throw new Refusal("bad_data", `options must be a list of 2 to ${signs.length}.`);
  return options.map((option) => line(option, "options"));
}

function line(text, field) {
  if (typeof text !== "string" || text.trim() === "" || text.length > 300) throw new Refusal("bad_data", `${field} must have 1 to 300 characters.`);
  return text.trim();
}
