// How a function is called, and what its result becomes.
(function (natives, own, tools) {
  "use strict";
  const {
    ArrayPrototype, Error, ObjectPrototype, String, TypeError, apply, asyncIterator, errorStack, getPrototypeOf,
    isArray, isView, iterator, keys, slice, stringify, tagOf, toWellFormed,
  } = own;

  // No text here is a template: QuickJS makes it by calling `String.prototype.concat`.
  const NOT_JSON = "the result is not JSON: ";
  const PENDING = 0;
  const FULFILLED = 1;
  const FAILED = 2;

  // Follows a result that may be a promise, or anything else with a `then`.
  async function follow(result, token) {
    try {
      result = await result;
    } catch (error) {
      settle(token, FAILED, error);
      return;
    }
    settle(token, FULFILLED, result);
  }

  function settle(token, state, value) {
    if (token.state === PENDING) {
      token.state = state;
      token.value = value;
    }
  }

  function watch(work) {
    const token = { __proto__: null, state: PENDING, value: undefined };
    let result;
    try {
      result = work(token);
    } catch (error) {
      settle(token, FAILED, error);
      return token;
    }
    if (result === WAITING) {
      return token;
    }
    if ((typeof result === "object" && result !== null) || typeof result === "function") {
      follow(result, token);
    } else {
      settle(token, FULFILLED, result);
    }
    return token;
  }
  // What a handler that was given a callback may return before it calls it.
  const WAITING = { __proto__: null };

  function environment(name) {
    const value = tools.environment[name];
    return typeof value === "string" && value !== "" ? value : undefined;
  }

  // What a handler is given beside the event, as Lambda has it.
  class Context {
    #deadline;
    #callback;

    constructor(requestId, deadline, caller, callback) {
      const name = environment("AWS_LAMBDA_FUNCTION_NAME") ?? "function";
      const region = environment("AWS_REGION") ?? environment("AWS_DEFAULT_REGION") ?? "us-east-1";
      const account = environment("AWS_ACCOUNT_ID") ?? "012345678912";
      this.awsRequestId = requestId;
      this.functionName = name;
      this.functionVersion = environment("AWS_LAMBDA_FUNCTION_VERSION") ?? "$LATEST";
      this.memoryLimitInMB = environment("AWS_LAMBDA_FUNCTION_MEMORY_SIZE") ?? "128";
      this.invokedFunctionArn = caller?.invoked_function_arn ?? "arn:aws:lambda:" + region + ":" + account + ":function:" + name;
      this.logGroupName = environment("AWS_LAMBDA_LOG_GROUP_NAME") ?? "/aws/lambda/" + name;
      this.logStreamName = environment("AWS_LAMBDA_LOG_STREAM_NAME") ?? "$LATEST";
      this.callbackWaitsForEmptyEventLoop = true;
      this.clientContext = caller?.client_context;
      this.identity = caller?.cognito_identity;
      this.tenantId = caller?.tenant_id;
      if (deadline === undefined) {
        const seconds = +(environment("AWS_LAMBDA_FUNCTION_TIMEOUT") ?? 900);
        deadline = natives.wallClock() + (seconds > 0 ? seconds : 900) * 1000;
      }
      this.#deadline = deadline;
      this.#callback = callback;
    }
    done(error, result) {
      this.#callback(error, result);
    }
    fail(error) {
      this.#callback(error ?? new Error("the function failed and gave no error"));
    }
    succeed(result) {
      this.#callback(null, result);
    }
    getRemainingTimeInMillis() {
      const left = this.#deadline - natives.wallClock();
      return left > 0 ? left - (left % 1) : 0;
    }
  }

  // The result as JSON text; `undefined` at its top is `null`, as in other runtimes.
  function encode(result) {
    if (result === undefined) {
      return "null";
    }
    let text;
    try {
      text = stringify(result, checked);
    } catch (error) {
      if (error === FOUND) {
        find(result, "result", []);
      }
      const cycle = findCycle(result, "result", []);
      if (cycle !== undefined) {
        throw new TypeError(NOT_JSON + cycle + " contains itself");
      }
      throw error;
    }
    // A `toJSON` may say that there is nothing.
    return text === undefined ? "null" : text;
  }

  // Thrown past `JSON.stringify` for something that it would leave out in silence.
  const FOUND = { __proto__: null };

  function checked(key, value) {
    if (unencodable(value) !== undefined) {
      throw FOUND;
    }
    return value;
  }

  // What a value is that JSON cannot hold, and that `JSON.stringify` would drop or empty.
  function unencodable(value) {
    switch (typeof value) {
      case "function":
        return "a function";
      case "symbol":
        return "a symbol";
      case "bigint":
        return "a BigInt";
      case "object":
        break;
      default:
        return undefined;
    }
    if (value === null) {
      return undefined;
    }
    const prototype = getPrototypeOf(value);
    if (prototype === ObjectPrototype || prototype === ArrayPrototype) {
      return undefined;
    }
    if (natives.isPromise(value)) {
      return "a Promise, which was not awaited";
    }
    switch (tagOf(value)) {
      case "[object Map]":
        return "a Map";
      case "[object Set]":
        return "a Set";
      case "[object WeakMap]":
        return "a WeakMap";
      case "[object WeakSet]":
        return "a WeakSet";
      case "[object ArrayBuffer]":
        return "an ArrayBuffer";
      default:
        return undefined;
    }
  }

  // Throws for the first part that JSON cannot hold.
  function find(value, path, above) {
    if (typeof value?.toJSON === "function") {
      value = value.toJSON("");
    }
    const kind = unencodable(value);
    if (kind !== undefined) {
      throw new TypeError(NOT_JSON + path + " is " + kind);
    }
    each(value, path, above, find);
  }

  // Where a value contains itself, if it does.
  function findCycle(value, path, above) {
    for (let index = 0; index < above.length; index++) {
      if (above[index] === value && typeof value === "object" && value !== null) {
        return path;
      }
    }
    return each(value, path, above, findCycle);
  }

  function each(value, path, above, look) {
    if (typeof value !== "object" || value === null) {
      return undefined;
    }
    // Nothing that is deeper is ever reached by `JSON.stringify` itself.
    const below = { __proto__: null, length: above.length + 1 };
    for (let index = 0; index < above.length; index++) {
      below[index] = above[index];
    }
    below[above.length] = value;
    if (isArray(value)) {
      for (let index = 0; index < value.length; index++) {
        const found = look(value[index], path + "[" + index + "]", below);
        if (found !== undefined) {
          return found;
        }
      }
      return undefined;
    }
    const names = keys(value);
    for (let index = 0; index < names.length; index++) {
      const name = names[index];
      const found = look(value[name], path + "[" + quoted(name) + "]", below);
      if (found !== undefined) {
        return found;
      }
    }
    return undefined;
  }

  function quoted(name) {
    const text = stringify(name);
    return text.length <= 80 ? text : slice(text, 0, 77) + '..."';
  }

  // What gives the pieces of a result, if that is what it is.
  function piecesOf(result) {
    if (typeof result !== "object" || result === null) {
      return undefined;
    }
    const later = result[asyncIterator];
    if (typeof later === "function") {
      return apply(later, result, []);
    }
    if (typeof result.getReader === "function") {
      const reader = result.getReader();
      return { __proto__: null, next: () => reader.read(), return: () => reader.cancel() };
    }
    return typeof result[iterator] === "function" && typeof result.next === "function" ? result : undefined;
  }

  // An item's bytes, and the type of media that is made of such; nothing after the last.
  function pieceOf(step) {
    if (step.done) {
      return undefined;
    }
    const item = step.value;
    if (typeof item === "string") {
      return { __proto__: null, kind: "text/plain; charset=utf-8", bytes: natives.encodeUtf8(toWellFormed(item)) };
    }
    if (isView(item) || (typeof item === "object" && item !== null && tagOf(item) === "[object ArrayBuffer]")) {
      return { __proto__: null, kind: "application/octet-stream", bytes: tools.bytesOf(item) };
    }
    const line = toWellFormed(encode(item) + "\n");
    return { __proto__: null, kind: "application/x-ndjson", bytes: natives.encodeUtf8(line) };
  }

  return {
    __proto__: null,
    watch,
    piecesOf,
    pieceOf,
    // Asks for the next item, and says that none is asked for any more.
    nextStep: (pieces) => watch(() => pieces.next()),
    lastStep: (pieces) => watch(() => (typeof pieces.return === "function" ? pieces.return() : undefined)),
    encode,
    // Begins a call; what comes of it shows in the token.
    begin(entry, isHandler, argument, requestId, deadline, caller) {
      return watch((token) => {
        const wants = entry.length;
        if (!isHandler && !(wants >= 2)) {
          return apply(entry, undefined, [argument]);
        }
        const callback = (error, result) => {
          if (error !== undefined && error !== null) {
            settle(token, FAILED, error);
          } else {
            settle(token, FULFILLED, result);
          }
        };
        const context = new Context(requestId, deadline, caller, callback);
        if (!(wants >= 3)) {
          return apply(entry, undefined, [argument, context]);
        }
        const result = apply(entry, undefined, [argument, context, callback]);
        return result === undefined ? WAITING : result;
      });
    },
    // What QuickJS noted down of an error, whatever the function made of `stack`.
    framesOf(error) {
      try {
        const stack = natives.isError(error) ? errorStack(error) : error.stack;
        return typeof stack === "string" ? toWellFormed(stack) : "";
      } catch {
        return "";
      }
    },
    // Any value as text that has a UTF-8 form.
    text(value) {
      try {
        return toWellFormed(String(value));
      } catch {
        return "<not to be told: its conversion to a string throws>";
      }
    },
  };
});
