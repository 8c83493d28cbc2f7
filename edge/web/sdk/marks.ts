// Read and delivered marks on their way to the server: coalesced, so that a busy
// conversation costs one call in a while and not one a message.

import type { ConversationID } from "./protocol.js";

interface Pending {
  read?: number;
  delivered?: number;
  timer: ReturnType<typeof setTimeout>;
}

export type SendMarks = (conversation: ConversationID, marks: { read?: number; delivered?: number }) => Promise<void>;

const WAIT_MS = 250;

export class Marks {
  private pending = new Map<ConversationID, Pending>();

  constructor(private readonly send: SendMarks) {}

  read(conversation: ConversationID, seq: number): void {
    const pending = this.soon(conversation);
    pending.read = Math.max(pending.read ?? 0, seq);
  }

  delivered(conversation: ConversationID, seq: number): void {
    const pending = this.soon(conversation);
    pending.delivered = Math.max(pending.delivered ?? 0, seq);
  }

  stop(): void {
    for (const pending of this.pending.values()) clearTimeout(pending.timer);
    this.pending.clear();
  }

  private soon(conversation: ConversationID): Pending {
    let pending = this.pending.get(conversation);
    if (!pending) {
      pending = { timer: setTimeout(() => void this.flush(conversation), WAIT_MS) };
      this.pending.set(conversation, pending);
    }
    return pending;
  }

  private async flush(conversation: ConversationID): Promise<void> {
    const pending = this.pending.get(conversation);
    this.pending.delete(conversation);
    if (!pending) return;
    const { read, delivered } = pending;
    try {
      await this.send(conversation, { ...(read ? { read } : {}), ...(delivered ? { delivered } : {}) });
    } catch {
      // A lost mark is not missed: the next look at the conversation sets it again.
    }
  }
}
