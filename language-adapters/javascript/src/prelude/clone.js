// structuredClone.
(function (natives, own, tools) {
  "use strict";
  const {
    DOMException, Date, Map, Object, RegExp, Set, String, TypedArrays, bigintValue, booleanValue,
    bufferLength, bufferSlice, construct, dataViewBuffer, dataViewByteLength, dataViewOffset, dateValue,
    define, hasOwn, install, isArray, isView, keys, mapForEach, mapGet, mapHas, mapSet,
    numberValue, regexpFlags, regexpSource, setAdd, setForEach, slice, stringValue, tagOf, typedBuffer,
    typedLength, typedOffset, viewTag,
  } = own;
  const ERRORS = {
    __proto__: null,
    EvalError: own.EvalError,
    RangeError: own.RangeError,
    ReferenceError: own.ReferenceError,
    SyntaxError: own.SyntaxError,
    TypeError: own.TypeError,
    URIError: own.URIError,
  };

  function refuse(value) {
    throw new DOMException(`${tools.brief(value)} could not be cloned.`, "DataCloneError");
  }

  function put(target, key, value) {
    define(target, key, { __proto__: null, value, writable: true, enumerable: true, configurable: true });
  }

  function clone(value, seen) {
    if (typeof value === "symbol" || typeof value === "function") {
      refuse(value);
    }
    if (typeof value !== "object" || value === null) {
      return value;
    }
    if (mapHas(seen, value)) {
      return mapGet(seen, value);
    }
    const remember = (copy) => {
      mapSet(seen, value, copy);
      return copy;
    };
    if (isView(value)) {
      const tag = viewTag(value);
      if (tag === undefined) {
        const buffer = clone(dataViewBuffer(value), seen);
        return remember(new own.DataView(buffer, dataViewOffset(value), dataViewByteLength(value)));
      }
      const buffer = clone(typedBuffer(value), seen);
      return remember(new TypedArrays[tag](buffer, typedOffset(value), typedLength(value)));
    }
    if (isArray(value)) {
      const copy = remember([]);
      copy.length = value.length;
      return properties(value, copy, seen);
    }
    // What an object says that it is; each of these throws for what is none of its kind.
    switch (slice(tagOf(value), 8, -1)) {
      case "Date":
        return remember(new Date(dateValue(value)));
      case "RegExp":
        return remember(new RegExp(regexpSource(value), regexpFlags(value)));
      case "Boolean":
        return remember(Object(booleanValue(value)));
      case "Number":
        return remember(Object(numberValue(value)));
      case "String":
        return remember(Object(stringValue(value)));
      case "BigInt":
        return remember(Object(bigintValue(value)));
      case "ArrayBuffer":
        return remember(bufferSlice(value, 0, bufferLength(value)));
      case "Map": {
        const copy = remember(new Map());
        const pairs = new Map();
        mapForEach(value, (item, key) => mapSet(pairs, key, item));
        mapForEach(pairs, (item, key) => mapSet(copy, clone(key, seen), clone(item, seen)));
        return copy;
      }
      case "Set": {
        const copy = remember(new Set());
        const items = new Set();
        setForEach(value, (item) => setAdd(items, item));
        setForEach(items, (item) => setAdd(copy, clone(item, seen)));
        return copy;
      }
      case "Error": {
        const kind = ERRORS[String(value.name)] ?? own.Error;
        const copy = remember(construct(kind, []));
        for (const name of ["message", "stack", "cause"]) {
          if (hasOwn(value, name)) {
            install(copy, name, clone(value[name], seen));
          }
        }
        return copy;
      }
      case "Promise":
      case "WeakMap":
      case "WeakSet":
      case "WeakRef":
      case "FinalizationRegistry":
      case "Generator":
      case "AsyncGenerator":
        return refuse(value);
      default:
        return properties(value, remember({}), seen);
    }
  }

  function properties(from, to, seen) {
    const names = keys(from);
    for (let index = 0; index < names.length; index++) {
      put(to, names[index], clone(from[names[index]], seen));
    }
    return to;
  }

  install(globalThis, "structuredClone", function structuredClone(value, options = undefined) {
    if (options?.transfer !== undefined && options.transfer.length > 0) {
      throw new DOMException("there is nobody to transfer to", "DataCloneError");
    }
    return clone(value, new Map());
  });
});
