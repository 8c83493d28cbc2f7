// What the browser gives to the SDK: storage, a lock among pages, the address.

import { MemoryStorage, type ClientOptions, type Lock, type Storage } from "../sdk/index.js";

const PREFIX = "confab.";

class WebStorage implements Storage {
  constructor(private readonly store: globalThis.Storage) {}
  read(key: string): string | null {
    return this.store.getItem(PREFIX + key);
  }
  write(key: string, value: string): void {
    this.store.setItem(PREFIX + key, value);
  }
  remove(key: string): void {
    this.store.removeItem(PREFIX + key);
  }
  keys(prefix: string): string[] {
    return Object.keys(this.store)
      .filter((key) => key.startsWith(PREFIX + prefix))
      .map((key) => key.slice(PREFIX.length));
  }
}

/** A private window may refuse storage: then nothing survives a reload. */
function storage(pick: () => globalThis.Storage): Storage {
  try {
    const store = pick();
    store.setItem(PREFIX + "probe", "1");
    store.removeItem(PREFIX + "probe");
    return new WebStorage(store);
  } catch {
    return new MemoryStorage();
  }
}

const lock: Lock = (name, fn) =>
  // navigator.locks exists in secure contexts only; without it pages may race.
  "locks" in navigator ? (navigator.locks.request(name, fn) as ReturnType<typeof fn>) : fn();

/** device names this tab, so that two tabs of one user do not replace each other. */
function device(tab: Storage): string {
  const kept = tab.read("device");
  if (kept) return kept;
  const bytes = crypto.getRandomValues(new Uint8Array(6));
  const made = "web-" + Array.from(bytes, (b) => b.toString(16).padStart(2, "0")).join("");
  tab.write("device", made);
  return made;
}

export function options(): ClientOptions {
  const url = new URL("/v1/ws", location.href);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  url.hash = "";
  return {
    url: url.href,
    device: device(storage(() => sessionStorage)),
    storage: storage(() => localStorage),
    lock,
  };
}

export interface Fragment {
  invite?: string;
  token?: string;
  refresh?: string;
  conversation?: string;
}

/** fragment reads the part after #: a secret, or the open conversation. */
export function fragment(): Fragment {
  const text = location.hash.slice(1);
  if (text.startsWith("/")) return { conversation: decode(text.slice(1)) };
  const values = new URLSearchParams(text);
  return {
    invite: values.get("invite") ?? undefined,
    token: values.get("token") ?? undefined,
    refresh: values.get("refresh") ?? undefined,
  };
}

/** forgetFragment takes secrets out of the address bar and the history. */
export function forgetFragment(): void {
  history.replaceState(null, "", location.pathname + location.search);
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return "";
  }
}
