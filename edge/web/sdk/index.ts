// The SDK: everything a chat client needs but the page.

export { Client, type ClientEvents, type ClientOptions } from "./client.js";
export type { ConnectionState, Phase } from "./connection.js";
export { Conversation, type PeerMarks } from "./conversation.js";
export { Log } from "./log.js";
export type { Item } from "./outbox.js";
export * from "./protocol.js";
export { adopt, signedIn, signIn } from "./signin.js";
export { MemoryStorage, type Lock, type Storage } from "./storage.js";
