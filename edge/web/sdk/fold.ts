// Folding: edits, recalls and reactions are entries of their own in the log, and
// a reader wants them seen on the message they speak of.

import type { Entry, UserID } from "./protocol.js";

interface Amended {
  edit?: Entry;
  recalled: boolean;
  /** The last word on each emoji and user, in the order of the log. */
  reactions: Map<string, { emoji: string; user: UserID; on: boolean; seq: number }>;
}

export class Amendments {
  private byTarget = new Map<number, Amended>();

  /** add takes any entry; it returns the seq that changed, or 0. */
  add(entry: Entry): number {
    const target = entry.target ?? 0;
    if (!target) return 0;
    let amended = this.byTarget.get(target);
    if (!amended) this.byTarget.set(target, (amended = { recalled: false, reactions: new Map() }));
    switch (entry.kind) {
      case "edit":
        if (entry.body && (amended.edit?.seq ?? 0) < entry.seq) amended.edit = entry;
        return target;
      case "recall":
        amended.recalled = true;
        return target;
      case "reaction":
        this.react(amended, entry);
        return target;
      default:
        return 0;
    }
  }

  private react(amended: Amended, entry: Entry): void {
    const emoji = entry.body?.["emoji"];
    if (typeof emoji !== "string") return;
    const key = `${emoji} ${entry.from}`;
    if ((amended.reactions.get(key)?.seq ?? 0) > entry.seq) return;
    amended.reactions.set(key, { emoji, user: entry.from, on: entry.body?.["remove"] !== true, seq: entry.seq });
  }

  /**
   * fold returns base with everything known about it. A base that was read late
   * is folded by the server already, so an older edit must not undo its body.
   */
  fold(base: Entry): Entry {
    const amended = this.byTarget.get(base.seq);
    if (!amended) return base;
    const folded: Entry = { ...base };
    if (amended.edit && (!base.edited_at || base.edited_at <= amended.edit.at)) {
      folded.body = amended.edit.body;
      folded.edited_at = amended.edit.at;
    }
    if (amended.reactions.size > 0) folded.reactions = reactionsOf(base, amended);
    if (amended.recalled || base.recalled) {
      folded.recalled = true;
      delete folded.body;
      delete folded.reactions;
    }
    return folded;
  }

  clear(): void {
    this.byTarget.clear();
  }
}

function reactionsOf(base: Entry, amended: Amended): Record<string, UserID[]> {
  const users = new Map<string, Set<UserID>>();
  for (const [emoji, list] of Object.entries(base.reactions ?? {})) users.set(emoji, new Set(list));
  for (const { emoji, user, on } of amended.reactions.values()) {
    const set = users.get(emoji) ?? new Set();
    if (on) set.add(user);
    else set.delete(user);
    users.set(emoji, set);
  }
  const result: Record<string, UserID[]> = {};
  for (const [emoji, set] of users) if (set.size > 0) result[emoji] = [...set];
  return result;
}
