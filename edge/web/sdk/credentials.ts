// The tokens of the signed-in user. A refresh token may be spent once: a second
// use revokes the whole family. So pages that share a storage take a lock, look
// whether another page was faster, and only then refresh.

import { CallError, type Tokens } from "./protocol.js";
import { alone, readJSON, type Lock, type Storage } from "./storage.js";

interface Kept extends Tokens {
  obtained_at: number;
  expires_ms: number;
}

const KEY = "tokens";
const LONGEST_MARGIN_MS = 30_000;

export type Call = (name: string, data: unknown) => Promise<unknown>;

export class Credentials {
  private refreshing: Promise<void> | undefined;

  constructor(
    private readonly storage: Storage,
    private readonly lock: Lock = alone,
  ) {}

  load(): Kept | undefined {
    const kept = readJSON<Kept>(this.storage, KEY);
    return kept && typeof kept.token === "string" ? kept : undefined;
  }

  save(tokens: Tokens, nowMs: number = Date.now()): void {
    const stated = tokens.expires_at ? Date.parse(tokens.expires_at) : NaN;
    const kept: Kept = {
      token: tokens.token,
      refresh_token: tokens.refresh_token,
      user: tokens.user,
      obtained_at: nowMs,
      expires_ms: Number.isNaN(stated) ? expiry(tokens.token) : stated,
    };
    this.storage.write(KEY, JSON.stringify(kept));
  }

  clear(): void {
    this.storage.remove(KEY);
  }

  /** due is true when the token has expired or will within half a minute. */
  due(nowMs: number): boolean {
    const kept = this.load();
    if (!kept || !kept.expires_ms) return false;
    const margin = Math.min(LONGEST_MARGIN_MS, Math.max(0, (kept.expires_ms - kept.obtained_at) / 3));
    return nowMs >= kept.expires_ms - margin;
  }

  /**
   * refresh replaces the token that the caller found wanting, once at a time. It
   * throws the CallError of auth.refresh, or `unauthenticated` when there is
   * nothing to spend.
   */
  refresh(call: Call, wanting: string, nowMs: number): Promise<void> {
    this.refreshing ??= this.spend(call, wanting, nowMs).finally(() => (this.refreshing = undefined));
    return this.refreshing;
  }

  private spend(call: Call, wanting: string, nowMs: number): Promise<void> {
    return this.lock("confab.refresh", async () => {
      const kept = this.load();
      if (kept && kept.token !== wanting) return;
      if (!kept?.refresh_token) throw new CallError("unauthenticated", "no refresh token");
      const fresh = (await call("auth.refresh", { refresh_token: kept.refresh_token })) as Tokens;
      this.save({ ...fresh, user: fresh.user ?? kept.user }, nowMs);
    });
  }
}

/** The expiry that a JWT states, unverified: only the server's word counts. */
function expiry(token: string): number {
  try {
    const part = token.split(".")[1] ?? "";
    const claims = JSON.parse(atob(part.replace(/-/g, "+").replace(/_/g, "/"))) as { exp?: unknown };
    return typeof claims.exp === "number" ? claims.exp * 1000 : 0;
  } catch {
    return 0;
  }
}
