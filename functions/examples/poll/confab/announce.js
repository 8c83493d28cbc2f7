// An instance says up when calls can come, once a second, and when it is asked; and bye, once, before it goes. Callers keep calls to themselves while no instance
// is up, so nothing but up brings any.
const beat = 1_000; // milliseconds, give or take a tenth; after three of them without an up, callers take the instance for gone

export class Announcer {
  #nc;
  #function;
  #up;
  #timer;
  #subs = [];

  // up returns the newest InstanceUp.
  constructor(nc, functionName, up) {
    this.#nc = nc;
    this.#function = functionName;
    this.#up = up;
  }

  // start says up for the first time when the server has every subscription that was made before.
  async start() {
    for (const of of [this.#function, "all"]) {
      this.#subs.push(this.#nc.subscribe(`im.scale.${of}.who`, { callback: () => this.#say() }));
    }
    await this.#nc.flush();
    this.#beat();
  }

  stop(instance) {
    clearTimeout(this.#timer);
    for (const sub of this.#subs) sub.unsubscribe();
    this.#nc.publish(`im.scale.${this.#function}.bye`, JSON.stringify({ function: this.#function, instance }));
  }

  #beat() {
    this.#say();
    this.#timer = setTimeout(() => this.#beat(), beat * (0.9 + 0.2 * Math.random()));
  }

  #say() {
    this.#nc.publish(`im.scale.${this.#function}.up`, JSON.stringify(this.#up()));
  }
}
