// A typed event emitter: one set of listeners an event, called in order.

export class Emitter<Events> {
  private listeners = new Map<keyof Events, Set<(data: never) => void>>();

  /** on calls fn for each event until the returned function is called. */
  on<K extends keyof Events>(event: K, fn: (data: Events[K]) => void): () => void {
    let set = this.listeners.get(event);
    if (!set) this.listeners.set(event, (set = new Set()));
    set.add(fn as (data: never) => void);
    return () => set.delete(fn as (data: never) => void);
  }

  protected emit<K extends keyof Events>(event: K, data: Events[K]): void {
    for (const fn of [...(this.listeners.get(event) ?? [])]) {
      (fn as (data: Events[K]) => void)(data);
    }
  }
}
