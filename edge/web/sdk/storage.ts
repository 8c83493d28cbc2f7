// Where the SDK keeps what must survive a reload. The app gives an adapter; the
// SDK itself knows no localStorage.

/** Storage is synchronous: an unsent message is on disk before it is sent. */
export interface Storage {
  read(key: string): string | null;
  write(key: string, value: string): void;
  remove(key: string): void;
  keys(prefix: string): string[];
}

/** MemoryStorage forgets at the end of the page: for tests and private use. */
export class MemoryStorage implements Storage {
  private map = new Map<string, string>();
  read(key: string): string | null {
    return this.map.get(key) ?? null;
  }
  write(key: string, value: string): void {
    this.map.set(key, value);
  }
  remove(key: string): void {
    this.map.delete(key);
  }
  keys(prefix: string): string[] {
    return [...this.map.keys()].filter((key) => key.startsWith(prefix));
  }
}

/** readJSON is undefined where nothing, or nothing readable, is stored. */
export function readJSON<T>(storage: Storage, key: string): T | undefined {
  const text = storage.read(key);
  if (text === null) return undefined;
  try {
    return JSON.parse(text) as T;
  } catch {
    return undefined;
  }
}

/** Lock runs one function at a time among all pages of a user. */
export type Lock = <T>(name: string, fn: () => Promise<T>) => Promise<T>;

/** alone is the lock of a program that has no second page. */
export const alone: Lock = (_name, fn) => fn();
