// setTimeout and its kin. When each is due is kept outside (`schedule`, `cancel`); here is
// what is then to be called.
(function (natives, own) {
  "use strict";
  const { apply, install, Number, TypeError, trunc, toPrimitive } = own;
  const { schedule, cancel } = natives;
  const MOST = 2 ** 31 - 1;

  // By number. No prototype, and so nothing of a function's lies in between.
  const waiting = { __proto__: null };
  let last = 0;

  class Timeout {
    #id;
    #delay;

    constructor(id, delay) {
      this.#id = id;
      this.#delay = delay;
    }
    ref() {
      return this.#keep(true);
    }
    unref() {
      return this.#keep(false);
    }
    #keep(keeps) {
      const entry = waiting[this.#id];
      if (entry !== undefined) {
        entry.keeps = keeps;
        natives.keep(this.#id, keeps);
      }
      return this;
    }
    hasRef() {
      return waiting[this.#id]?.keeps ?? false;
    }
    refresh() {
      const entry = waiting[this.#id];
      if (entry !== undefined) {
        schedule(this.#id, this.#delay, entry.keeps);
      }
      return this;
    }
    close() {
      clear(this);
      return this;
    }
    [toPrimitive]() {
      return this.#id;
    }
    static id(thing) {
      return typeof thing === "object" && thing !== null && #id in thing ? thing.#id : thing;
    }
  }
  const idOf = Timeout.id;
  delete Timeout.id;

  function start(callback, delay, repeats, args) {
    if (typeof callback !== "function") {
      throw new TypeError("the callback of a timer must be a function");
    }
    const id = ++last;
    waiting[id] = { __proto__: null, callback, args, delay, repeats, keeps: true };
    schedule(id, delay, true);
    return new Timeout(id, delay);
  }

  function bounded(delay) {
    const number = trunc(Number(delay));
    return number >= 1 && number <= MOST ? number : 1;
  }

  function clear(timer) {
    const id = idOf(timer);
    if ((typeof id === "number" || typeof id === "string") && id in waiting) {
      delete waiting[id];
      cancel(Number(id));
    }
  }

  install(globalThis, "setTimeout", function setTimeout(callback, delay, ...args) {
    return start(callback, bounded(delay), false, args);
  });
  install(globalThis, "setInterval", function setInterval(callback, delay, ...args) {
    return start(callback, bounded(delay), true, args);
  });
  install(globalThis, "setImmediate", function setImmediate(callback, ...args) {
    return start(callback, 0, false, args);
  });
  install(globalThis, "clearTimeout", function clearTimeout(timer) {
    clear(timer);
  });
  install(globalThis, "clearInterval", function clearInterval(timer) {
    clear(timer);
  });
  install(globalThis, "clearImmediate", function clearImmediate(timer) {
    clear(timer);
  });

  return {
    __proto__: null,
    // Calls what is due.
    fire(id) {
      const entry = waiting[id];
      if (entry === undefined) {
        return;
      }
      if (!entry.repeats) {
        delete waiting[id];
      }
      try {
        apply(entry.callback, undefined, entry.args);
      } finally {
        // Unless the callback cleared it, or refreshed it already.
        if (entry.repeats && waiting[id] === entry) {
          schedule(id, entry.delay, entry.keeps);
        }
      }
    },
  };
});
