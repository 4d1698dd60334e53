// What functions expect of `process`, as far as it makes sense here, and the clocks.
(function (natives, own) {
  "use strict";
  const { BigInt, Error, Number, String, TypeError, apply, define, install, isArray, toWellFormed, trunc } = own;
  const { now, write } = natives;

  const environment = natives.environment();
  class ProcessExit extends Error {}
  install(ProcessExit.prototype, "name", "ProcessExit");

  function hrtime(since) {
    const nanoseconds = BigInt(trunc(now() * 1e6));
    const whole = [Number(nanoseconds / 1000000000n), Number(nanoseconds % 1000000000n)];
    if (since === undefined) {
      return whole;
    }
    if (!isArray(since)) {
      throw new TypeError("process.hrtime() takes what it gave before");
    }
    let seconds = whole[0] - since[0];
    let rest = whole[1] - since[1];
    if (rest < 0) {
      seconds -= 1;
      rest += 1e9;
    }
    return [seconds, rest];
  }
  hrtime.bigint = function bigint() {
    return BigInt(trunc(now() * 1e6));
  };

  const stream = (descriptor) => ({
    fd: descriptor,
    isTTY: false,
    write(text) {
      write(descriptor, toWellFormed(String(text)));
      return true;
    },
  });

  const queue = globalThis.queueMicrotask;
  const process = {
    title: "quickjs",
    argv: ["quickjs"],
    argv0: "quickjs",
    execArgv: [],
    env: environment,
    get pid() {
      return natives.processId();
    },
    platform: "linux",
    arch: "x64",
    versions: { quickjs: natives.version },
    release: { name: "quickjs" },
    exitCode: undefined,
    stdout: stream(1),
    stderr: stream(2),
    cwd: () => natives.workingDirectory(),
    hrtime,
    uptime: () => now() / 1000,
    nextTick(callback, ...args) {
      if (typeof callback !== "function") {
        throw new TypeError("the callback must be a function");
      }
      queue(() => apply(callback, undefined, args));
    },
    // Ends the call and not the process, which is not the function's.
    exit(code) {
      throw new ProcessExit(`process.exit(${code === undefined ? "" : String(code)})`);
    },
    abort() {
      throw new ProcessExit("process.abort()");
    },
    emitWarning(warning) {
      write(2, toWellFormed(`Warning: ${String(warning?.message ?? warning)}\n`));
    },
  };
  define(process, own.toStringTag, { __proto__: null, value: "process", configurable: true });
  install(globalThis, "process", process);
  install(globalThis, "global", globalThis);

  // The one that QuickJS brings counts from when this context was made, in the template.
  class Performance {
    now() {
      return now();
    }
    get timeOrigin() {
      return natives.timeOrigin();
    }
    toJSON() {
      return { timeOrigin: natives.timeOrigin() };
    }
  }
  install(globalThis, "performance", new Performance());

  install(Math, "random", natives.random);

  return { __proto__: null, environment };
});
