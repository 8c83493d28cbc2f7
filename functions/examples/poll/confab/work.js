// Work is what an instance does at one time: at most `concurrency` tasks run, at most `room` wait for their turn, and what comes on top is refused. It
// knows how busy the instance was, for whoever decides how many instances there should be.
export class Work {
  #concurrency;
  #room;
  #running = 0;
  #waiting = [];
  #busy = 0; // tasks that run or wait and are not passive
  #peak = 0;
  #active = Date.now();
  #idle = []; // who waits until nothing runs

  constructor(concurrency, room = 1024) {
    this.#concurrency = concurrency;
    this.#room = room;
  }

  // submit runs a task, now or in its turn, and reports whether there was a place for it. Passive tasks do not count as activity.
  submit(task, passive = false) {
    if (this.#running >= this.#concurrency && this.#waiting.length >= this.#room) return false;
    if (!passive) {
      this.#active = Date.now();
      this.#busy++;
      this.#peak = Math.max(this.#peak, this.#busy);
    }
    this.#waiting.push({ task, passive });
    this.#next();
    return true;
  }

  get load() {
    return this.#running + this.#waiting.length;
  }

  get idleMs() {
    return Date.now() - this.#active;
  }

  // takePeak returns the most tasks there were at once since it was asked before.
  takePeak() {
    const peak = this.#peak;
    this.#peak = this.#busy;
    return peak;
  }

  // done resolves when nothing runs and nothing waits.
  done() {
    return new Promise((resolve) => (this.load === 0 ? resolve() : this.#idle.push(resolve)));
  }

  #next() {
    while (this.#running < this.#concurrency && this.#waiting.length > 0) this.#run(this.#waiting.shift());
  }

  async #run({ task, passive }) {
    this.#running++;
    try {
      await task();
    } finally {
      this.#running--;
      if (!passive) this.#busy--;
      this.#next();
      if (this.load === 0) for (const resolve of this.#idle.splice(0)) resolve();
    }
  }
}
