// One WebSocket and the calls that are open on it. It lives from open to close
// and never comes back; Connection makes the next one.

import { CallError, DISCONNECTED, type Frame } from "./protocol.js";

export const SUBPROTOCOL = "confab.v1";
const CALL_TIMEOUT_MS = 15_000;
const SMALLEST_FRAME_BYTES = 16 * 1024;

interface Open {
  resolve(ok: unknown): void;
  reject(err: CallError): void;
  timer: ReturnType<typeof setTimeout>;
}

export class Socket {
  /** The close code, once the socket has ended. 1006 where there was none. */
  readonly closed: Promise<number>;
  /** When the last bytes came in, by the machine's clock. */
  heardAt = Date.now();
  frameBytes = SMALLEST_FRAME_BYTES;

  private readonly ws: WebSocket;
  private readonly open = new Map<number, Open>();
  private out: string[] = [];
  private nextID = 1;
  private ended = false;
  private end!: (code: number) => void;

  constructor(
    url: string,
    private readonly onEvent: (event: string, data: unknown) => void,
  ) {
    this.closed = new Promise((resolve) => (this.end = resolve));
    this.ws = new WebSocket(url, [SUBPROTOCOL]);
    this.ws.onmessage = (message) => this.receive(message.data);
    this.ws.onclose = (close) => this.finish(close.code || 1006);
  }

  /** opened resolves when frames may be sent; it rejects when that never comes. */
  opened(timeoutMs = 10_000): Promise<void> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => this.close(), timeoutMs);
      this.ws.onopen = () => {
        clearTimeout(timer);
        resolve();
      };
      void this.closed.then((code) => {
        clearTimeout(timer);
        reject(new CallError(DISCONNECTED, `the socket closed with ${code}`));
      });
    });
  }

  /** call rejects with a CallError; without an answer its code is unknown. */
  call(name: string, data: unknown, timeoutMs = CALL_TIMEOUT_MS): Promise<unknown> {
    if (this.ended) return Promise.reject(new CallError(DISCONNECTED));
    const id = this.nextID++;
    const line = JSON.stringify({ id, call: name, data });
    // The server would close the socket, and a repeat would close the next one.
    if (bytes(line) > this.frameBytes) return Promise.reject(new CallError("too_large"));
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.open.delete(id);
        reject(new CallError("timeout", `${name} was not answered`));
      }, timeoutMs);
      this.open.set(id, { resolve, reject, timer });
      this.send(line);
    });
  }

  /** notify wants no answer and gets none, not even an error. */
  notify(name: string, data: unknown): void {
    if (!this.ended) this.send(JSON.stringify({ call: name, data }));
  }

  /**
   * close ends the socket here and now. The browser may take minutes to notice a
   * dead peer, so the rest of the SDK does not wait for its close event.
   */
  close(code = 1000): void {
    this.ws.onmessage = this.ws.onclose = this.ws.onopen = null;
    this.ws.close(code);
    this.finish(1006);
  }

  private send(line: string): void {
    this.out.push(line);
    if (this.out.length === 1) queueMicrotask(() => this.flush());
  }

  /** flush packs frames of one turn into as few messages as the limit allows. */
  private flush(): void {
    const lines = this.out;
    this.out = [];
    if (this.ws.readyState !== WebSocket.OPEN) return;
    let message = "";
    let size = 0;
    for (const line of lines) {
      const more = bytes(line);
      if (message && size + more > this.frameBytes) {
        this.ws.send(message);
        message = "";
        size = 0;
      }
      message += line + "\n";
      size += more;
    }
    if (message) this.ws.send(message);
  }

  private receive(data: unknown): void {
    this.heardAt = Date.now();
    if (typeof data !== "string") return;
    for (const line of data.split("\n")) {
      if (line.trim() === "") continue;
      let frame: Frame;
      try {
        frame = JSON.parse(line) as Frame;
      } catch {
        continue;
      }
      if (typeof frame.event === "string") this.onEvent(frame.event, frame.data ?? {});
      else this.answer(frame);
    }
  }

  private answer(frame: Frame): void {
    const call = typeof frame.id === "number" ? this.open.get(frame.id) : undefined;
    if (!call) return;
    this.open.delete(frame.id as number);
    clearTimeout(call.timer);
    if (frame.error) {
      const { code, message, retry_after_ms } = frame.error;
      call.reject(new CallError(code, message, retry_after_ms));
    } else {
      call.resolve(frame.ok ?? {});
    }
  }

  private finish(code: number): void {
    if (this.ended) return;
    this.ended = true;
    for (const call of this.open.values()) {
      clearTimeout(call.timer);
      call.reject(new CallError(DISCONNECTED, `the socket closed with ${code}`));
    }
    this.open.clear();
    this.end(code);
  }
}

const encoder = new TextEncoder();

/** bytes counts a line as it is sent, with its newline. */
function bytes(line: string): number {
  return encoder.encode(line).length + 1;
}

/**
 * once makes a single call that needs no hello before it (auth.register,
 * auth.login, hello itself) on a socket of its own.
 */
export async function once(url: string, name: string, data: unknown): Promise<unknown> {
  const socket = new Socket(url, () => {});
  try {
    await socket.opened();
    return await socket.call(name, data);
  } finally {
    socket.close();
  }
}
