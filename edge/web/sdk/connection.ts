// The connection that stays: hello, token refresh, heartbeat, and coming back
// after a close as its code allows.

import { afterClose, delay, sleep, type Sleep } from "./backoff.js";
import type { Credentials } from "./credentials.js";
import { Emitter } from "./emitter.js";
import { CallError, DISCONNECTED, type Hello, type ServerEvents } from "./protocol.js";
import { Socket } from "./socket.js";

export type Phase = "offline" | "connecting" | "online" | "waiting" | "stopped";

export interface ConnectionState {
  phase: Phase;
  /** When the next try starts, by the machine's clock; only while waiting. */
  retryAt?: number;
  /** Why the connection stopped for good, or what closed it last. */
  code?: number;
}

export interface ConnectionEvents {
  state: ConnectionState;
  ready: Hello;
  event: { event: keyof ServerEvents; data: unknown };
  signedOut: { reason: string };
}

const TICK_MS = 5_000;
const PING_TIMEOUT_MS = 8_000;
const STABLE_MS = 10_000;
const REFUSALS = 3;
const SOON_MS = 120_000;
const REFUSED = new Set(["unauthenticated", "token_expired", "forbidden", "bad_data", "not_found"]);

export class Connection extends Emitter<ConnectionEvents> {
  state: ConnectionState = { phase: "offline" };
  hello: Hello | undefined;

  private socket: Socket | undefined;
  private running = false;
  private generation = 0;
  private waiting: Sleep | undefined;
  private attempt = 0;
  private refusals = 0;
  private mustRefresh = false;
  private told: number | undefined;
  private asked = 0;
  private clockSkew = 0;

  constructor(
    private readonly url: string,
    private readonly device: string,
    private readonly credentials: Credentials,
  ) {
    super();
  }

  get online(): boolean {
    return this.state.phase === "online";
  }

  /** now is the server's time in milliseconds, as of the last hello. */
  now(): number {
    return Date.now() + this.clockSkew;
  }

  call(name: string, data: unknown, timeoutMs?: number): Promise<unknown> {
    if (!this.online || !this.socket) return Promise.reject(new CallError(DISCONNECTED));
    return this.socket.call(name, data, timeoutMs);
  }

  notify(name: string, data: unknown): void {
    if (this.online) this.socket?.notify(name, data);
  }

  /** start connects and stays; it does nothing where that is so already. */
  start(): void {
    if (this.running) return;
    this.running = true;
    void this.run(++this.generation);
  }

  stop(): void {
    this.running = false;
    this.waiting?.wake();
    this.socket?.close();
    this.change({ phase: "offline" });
  }

  /** wake tries at once: the app calls it when the machine or page comes back. */
  wake(): void {
    if (this.waiting) this.waiting.wake();
    else if (this.online) void this.ping();
  }

  /** run ends when it is stopped; a later start has a loop of its own. */
  private async run(generation: number): Promise<void> {
    const current = () => this.running && this.generation === generation;
    while (current()) {
      this.change({ phase: "connecting", code: this.state.code });
      const startedAt = Date.now();
      const code = await this.session();
      if (Date.now() - startedAt > STABLE_MS) this.attempt = 0;
      if (!current() || !this.mayReturn(code)) return;
      const ms = this.told ?? delay(this.attempt++, this.asked);
      this.told = undefined;
      this.asked = 0;
      this.waiting = sleep(ms);
      this.change({ phase: "waiting", retryAt: Date.now() + ms, code });
      await this.waiting.done;
      this.waiting = undefined;
    }
  }

  /** mayReturn decides by the close code, and says so when the answer is no. */
  private mayReturn(code: number): boolean {
    const next = afterClose(code);
    if (next === "reconnect") return true;
    if (next === "refresh") {
      this.mustRefresh = true;
      if (code === 4003 || ++this.refusals < REFUSALS) return true;
    }
    this.running = false;
    this.change({ phase: "stopped", code });
    if (code === 4500 || code === 4501 || code === 4506) this.signOut(code === 4506 ? "revoked" : "refused");
    return false;
  }

  /** session is one socket from open to close; it returns the close code. */
  private async session(): Promise<number> {
    const socket = new Socket(this.url, (event, data) => this.onEvent(socket, event, data));
    this.socket = socket;
    try {
      await socket.opened();
      await this.signIn(socket);
    } catch (reason) {
      const err = CallError.of(reason);
      this.asked = err.retryAfterMs;
      // The server closes after a bad hello; its code is the better reason.
      const code = await Promise.race([socket.closed, sleep(500).done.then(() => 1006)]);
      socket.close();
      return code === 1006 && REFUSED.has(err.code) ? 4500 : code;
    }
    const ticker = setInterval(() => void this.tick(socket), TICK_MS);
    const code = await socket.closed;
    clearInterval(ticker);
    return code;
  }

  private async signIn(socket: Socket): Promise<void> {
    if (this.mustRefresh || this.credentials.due(this.now())) await this.refresh(socket);
    const hello = (await this.sayHello(socket)) as Hello;
    this.refusals = 0;
    this.hello = hello;
    if (hello.limits?.frame_bytes) socket.frameBytes = hello.limits.frame_bytes;
    if (hello.server_time) this.clockSkew = Date.parse(hello.server_time) - Date.now() || 0;
    this.change({ phase: "online" });
    this.emit("ready", hello);
  }

  private async sayHello(socket: Socket): Promise<unknown> {
    const tokens = this.credentials.load();
    if (!tokens) throw new CallError("unauthenticated");
    try {
      return await socket.call("hello", { token: tokens.token, device: this.device });
    } catch (reason) {
      if (REFUSED.has(CallError.of(reason).code)) this.mustRefresh = true;
      throw reason;
    }
  }

  /** refresh gives up for good only on a definite no. */
  private async refresh(socket: Socket): Promise<void> {
    const wanting = this.credentials.load()?.token ?? "";
    try {
      await this.credentials.refresh((name, data) => socket.call(name, data), wanting, this.now());
      this.mustRefresh = false;
    } catch (reason) {
      if (REFUSED.has(CallError.of(reason).code)) {
        this.running = false;
        this.change({ phase: "stopped", code: 4500 });
        this.signOut("expired");
      }
      throw reason;
    }
  }

  /** tick watches over a quiet line and a token that grows old. */
  private async tick(socket: Socket): Promise<void> {
    const quiet = Date.now() - socket.heardAt;
    if (quiet > (this.hello?.ping_seconds ?? 25) * 1000) await this.ping();
    if (this.credentials.due(this.now())) await this.extend(socket);
  }

  private async extend(socket: Socket): Promise<void> {
    try {
      await this.refresh(socket);
      await this.sayHello(socket);
    } catch {
      // The next tick tries again; a definite no has signed out already.
    }
  }

  private async ping(): Promise<void> {
    const socket = this.socket;
    if (!socket) return;
    try {
      await socket.call("ping", {}, PING_TIMEOUT_MS);
    } catch (reason) {
      if (CallError.of(reason).code === "timeout") socket.close();
    }
  }

  private onEvent(socket: Socket, event: string, data: unknown): void {
    if (socket !== this.socket) return;
    if (event === "draining") {
      const ms = (data as ServerEvents["draining"]).reconnect_after_ms;
      if (typeof ms === "number" && ms >= 0) this.told = ms;
    }
    if (event === "session") this.warned(socket, data as ServerEvents["session"]);
    this.emit("event", { event: event as keyof ServerEvents, data });
  }

  /** warned: the server sees the end of the session near. */
  private warned(socket: Socket, { expires_at }: ServerEvents["session"]): void {
    if (expires_at && Date.parse(expires_at) - this.now() < SOON_MS) void this.extend(socket);
  }

  private signOut(reason: string): void {
    this.emit("signedOut", { reason });
  }

  private change(state: ConnectionState): void {
    this.state = state;
    this.emit("state", state);
  }
}
