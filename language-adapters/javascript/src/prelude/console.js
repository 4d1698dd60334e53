// console, and how it shows values: much as Node.js does.
(function (natives, own) {
  "use strict";
  const {
    Number, String, bigintToString, bufferLength, dateToISOString, dateValue, define, functionToString, getOwnPropertyDescriptor,
    getPrototypeOf, hasOwn, indexOf, install, isArray, isEnumerable, isView, keys, mapForEach, mapSize,
    numberToFixed, ownKeys, padEnd, regexpToString, repeat, setForEach, setSize, slice, stringify,
    symbolToString, tagOf, toStringTag, toWellFormed, trunc, typedLength, viewTag,
  } = own;
  const { now, write } = natives;
  const DEPTH = 2;
  const ITEMS = 100;
  const WIDTH = 72;

  // A list that nothing a function does to arrays can reach.
  const list = () => ({ __proto__: null, length: 0 });
  const add = (items, item) => {
    items[items.length++] = item;
  };
  const joined = (items, between) => {
    let text = "";
    for (let index = 0; index < items.length; index++) {
      text += (index === 0 ? "" : between) + items[index];
    }
    return text;
  };

  function inspect(value, depth, above) {
    switch (typeof value) {
      case "string":
        return quoted(value);
      case "bigint":
        return `${bigintToString(value)}n`;
      case "symbol":
        return symbolToString(value);
      case "number":
        return value === 0 && 1 / value < 0 ? "-0" : String(value);
      case "function":
        return inspectFunction(value, depth, above);
      case "object":
        return value === null ? "null" : inspectObject(value, depth, above);
      default:
        return String(value);
    }
  }

  function quoted(text) {
    if (indexOf(text, "'") === -1) {
      const json = stringify(text);
      let inner = "";
      for (let index = 1; index < json.length - 1; index++) {
        // Between single quotes a double one stands for itself.
        if (json[index] === "\\" && json[index + 1] === '"') {
          continue;
        }
        inner += json[index];
        if (json[index] === "\\") {
          inner += json[++index];
        }
      }
      return `'${inner}'`;
    }
    return stringify(text);
  }

  function inspectFunction(value, depth, above) {
    const isClass = slice(functionToString(value), 0, 6) === "class ";
    const name = hasOwn(value, "name") && typeof value.name === "string" && value.name !== "" ? value.name : "";
    const head = isClass ? `[class ${name || "(anonymous)"}]` : `[Function${name === "" ? " (anonymous)" : `: ${name}`}]`;
    return keys(value).length === 0 ? head : braced(value, `${head} `, "{", "}", list(), depth, above, true);
  }

  function inspectObject(value, depth, above) {
    for (let index = 0; index < above.length; index++) {
      if (above[index] === value) {
        return "[Circular]";
      }
    }
    if (natives.isError(value)) {
      return natives.stackOf(value);
    }
    const name = constructorName(value);
    if (isArray(value)) {
      return braced(value, name === "Array" ? "" : `${name}(${value.length}) `, "[", "]", list(), depth, above, false);
    }
    const items = list();
    switch (slice(tagOf(value), 8, -1)) {
      case "Date": {
        const time = dateValue(value);
        return time === time ? dateToISOString(value) : "Invalid Date";
      }
      case "RegExp":
        return regexpToString(value);
      case "Promise":
        if (natives.isPromise(value)) {
          return `Promise { ${natives.promiseState(value)} }`;
        }
        break;
      case "Map":
        if (depth >= 0) {
          mapForEach(value, (item, key) =>
            add(items, `${inspect(key, depth - 1, under(above, value))} => ${inspect(item, depth - 1, under(above, value))}`));
        }
        return braced(value, `${name}(${mapSize(value)}) `, "{", "}", items, depth, above, true);
      case "Set":
        if (depth >= 0) {
          setForEach(value, (item) => add(items, inspect(item, depth - 1, under(above, value))));
        }
        return braced(value, `${name}(${setSize(value)}) `, "{", "}", items, depth, above, true);
      case "Boolean":
      case "Number":
      case "String":
        return `[${name}: ${inspect(value.valueOf(), depth, above)}]`;
      case "ArrayBuffer":
        return `ArrayBuffer { byteLength: ${bufferLength(value)} }`;
      default:
        if (isView(value) && viewTag(value) !== undefined) {
          return braced(value, `${name}(${typedLength(value)}) `, "[", "]", list(), depth, above, false);
        }
    }
    return braced(value, name === "Object" ? "" : `${name} `, "{", "}", items, depth, above, true);
  }

  function constructorName(value) {
    for (let it = value; it !== null; it = getPrototypeOf(it)) {
      const found = getOwnPropertyDescriptor(it, "constructor");
      if (found !== undefined && typeof found.value === "function" && typeof found.value.name === "string" && found.value.name !== "") {
        const tag = slice(tagOf(value), 8, -1);
        const name = found.value.name;
        return tag === name || tag === "Object" || tag === "Array" || isView(value) ? name : `${name} [${tag}]`;
      }
    }
    return "[Object: null prototype]";
  }

  function under(above, value) {
    const below = list();
    for (let index = 0; index < above.length; index++) {
      add(below, above[index]);
    }
    add(below, value);
    return below;
  }

  // An object's own properties between its brackets, after what it contains otherwise.
  function braced(value, head, open, close, items, depth, above, isNamed) {
    if (depth < 0) {
      return isNamed ? `[${head === "" ? "Object" : slice(head, 0, -1)}]` : "[Array]";
    }
    const below = under(above, value);
    let index = 0;
    if (!isNamed) {
      const length = isArray(value) ? value.length : typedLength(value);
      for (; index < length && index < ITEMS; index++) {
        add(items, index in value ? inspect(value[index], depth - 1, below) : "<empty item>");
      }
      if (length > ITEMS) {
        add(items, `... ${length - ITEMS} more items`);
      }
    }
    const names = ownKeys(value);
    for (let at = 0; at < names.length; at++) {
      const name = names[at];
      if (!isEnumerable(value, name) || (!isNamed && typeof name === "string" && isIndex(name))) {
        continue;
      }
      add(items, `${nameOf(name)}: ${property(value, name, depth, below)}`);
    }
    if (items.length === 0) {
      return `${head}${open}${close}`;
    }
    const line = joined(items, ", ");
    if (line.length + head.length <= WIDTH && indexOf(line, "\n") === -1) {
      return `${head}${open} ${line} ${close}`;
    }
    const indented = list();
    for (let at = 0; at < items.length; at++) {
      add(indented, shifted(items[at], "  "));
    }
    return `${head}${open}\n${joined(indented, ",\n")}\n${close}`;
  }

  function isIndex(name) {
    const number = Number(name);
    return number >= 0 && trunc(number) === number && String(number) === name;
  }

  function nameOf(name) {
    if (typeof name === "symbol") {
      return `[${symbolToString(name)}]`;
    }
    for (let index = 0; index < name.length; index++) {
      const unit = name[index];
      const isPlain = (unit >= "a" && unit <= "z") || (unit >= "A" && unit <= "Z") || unit === "_" || unit === "$"
        || (index > 0 && unit >= "0" && unit <= "9");
      if (!isPlain) {
        return quoted(name);
      }
    }
    return name === "" ? "''" : name;
  }

  function property(value, name, depth, above) {
    const found = getOwnPropertyDescriptor(value, name);
    if (found === undefined) {
      return "undefined";
    }
    // A getter is the function's code, which looking at a value does not run.
    if (found.get !== undefined || found.set !== undefined) {
      return found.set === undefined ? "[Getter]" : found.get === undefined ? "[Setter]" : "[Getter/Setter]";
    }
    return inspect(found.value, depth - 1, above);
  }

  function shifted(text, by) {
    let result = by;
    for (let index = 0; index < text.length; index++) {
      result += text[index];
      if (text[index] === "\n") {
        result += by;
      }
    }
    return result;
  }

  function shown(value, depth = DEPTH) {
    try {
      return inspect(value, depth, list());
    } catch {
      return "<not to be shown: looking at it throws>";
    }
  }

  // `console.log`'s own: %s and its kin, then the rest.
  function format(args) {
    const parts = list();
    let from = 0;
    if (args.length > 1 && typeof args[0] === "string" && indexOf(args[0], "%") !== -1) {
      const text = args[0];
      let filled = "";
      from = 1;
      for (let index = 0; index < text.length; index++) {
        const kind = text[index] === "%" ? text[index + 1] : undefined;
        if (kind === "%") {
          filled += "%";
          index++;
        } else if (kind !== undefined && from < args.length && indexOf("sdifjoOc", kind) !== -1) {
          filled += filling(kind, args[from++]);
          index++;
        } else {
          filled += text[index];
        }
      }
      add(parts, filled);
    }
    for (let index = from; index < args.length; index++) {
      add(parts, typeof args[index] === "string" ? args[index] : shown(args[index]));
    }
    return joined(parts, " ");
  }

  function filling(kind, value) {
    switch (kind) {
      case "s":
        return typeof value === "string" ? value
          : typeof value === "object" || typeof value === "function" ? shown(value, 0) : shown(value);
      case "d":
        return typeof value === "bigint" ? shown(value) : typeof value === "symbol" ? "NaN" : shown(Number(value));
      case "i": {
        const number = typeof value === "symbol" ? NaN : typeof value === "bigint" ? value : trunc(Number(value));
        return shown(number);
      }
      case "f":
        return typeof value === "symbol" ? "NaN" : shown(Number(value));
      case "j":
        return stringify(value) ?? "undefined";
      case "c":
        return "";
      default:
        return shown(value, 4);
    }
  }

  const OUT = 1;
  const ERR = 2;
  let indent = "";
  const counts = { __proto__: null };
  const timers = { __proto__: null };

  function print(descriptor, text) {
    if (indent !== "") {
      text = shifted(text, indent);
    }
    write(descriptor, toWellFormed(`${text}\n`));
  }

  function label(thing) {
    return thing === undefined ? "default" : String(thing);
  }

  function elapsed(name) {
    const since = timers[name];
    if (since === undefined) {
      print(ERR, `Warning: No such label '${name}' for console.time()`);
      return undefined;
    }
    const milliseconds = now() - since;
    return `${name}: ${numberToFixed(milliseconds, 3)}ms`;
  }

  function table(data) {
    if (typeof data !== "object" || data === null) {
      print(OUT, format([data]));
      return;
    }
    const columns = list();
    const rows = list();
    const note = (name) => {
      for (let index = 0; index < columns.length; index++) {
        if (columns[index] === name) {
          return;
        }
      }
      add(columns, name);
    };
    const names = keys(data);
    for (let index = 0; index < names.length; index++) {
      const row = { __proto__: null, "(index)": names[index] };
      const item = data[names[index]];
      if (typeof item === "object" && item !== null) {
        const parts = keys(item);
        for (let at = 0; at < parts.length; at++) {
          note(parts[at]);
          row[`.${parts[at]}`] = shown(item[parts[at]], 0);
        }
      } else {
        row["(value)"] = shown(item, 0);
      }
      add(rows, row);
    }
    const heads = list();
    add(heads, ["(index)", "(index)"]);
    for (let index = 0; index < columns.length; index++) {
      add(heads, [columns[index], `.${columns[index]}`]);
    }
    for (let index = 0; index < rows.length; index++) {
      if ("(value)" in rows[index]) {
        add(heads, ["Values", "(value)"]);
        break;
      }
    }
    const lines = list();
    const widths = list();
    for (let column = 0; column < heads.length; column++) {
      let width = heads[column][0].length;
      for (let index = 0; index < rows.length; index++) {
        const cell = rows[index][heads[column][1]] ?? "";
        width = cell.length > width ? cell.length : width;
      }
      add(widths, width);
    }
    const line = (cellOf) => {
      let text = "";
      for (let column = 0; column < heads.length; column++) {
        text += `${column === 0 ? "" : " │ "}${padEnd(cellOf(column), widths[column])}`;
      }
      add(lines, text);
    };
    line((column) => heads[column][0]);
    line((column) => repeat("─", widths[column]));
    for (let index = 0; index < rows.length; index++) {
      line((column) => rows[index][heads[column][1]] ?? "");
    }
    print(OUT, joined(lines, "\n"));
  }

  const console = {
    log: (...args) => print(OUT, format(args)),
    info: (...args) => print(OUT, format(args)),
    debug: (...args) => print(OUT, format(args)),
    warn: (...args) => print(ERR, format(args)),
    error: (...args) => print(ERR, format(args)),
    trace(...args) {
      const stack = natives.stackOf(new own.Error());
      const at = indexOf(stack, "\n");
      print(ERR, `Trace: ${format(args)}${at === -1 ? "" : slice(stack, at)}`);
    },
    assert(condition, ...args) {
      if (!condition) {
        print(ERR, args.length === 0 ? "Assertion failed" : `Assertion failed: ${format(args)}`);
      }
    },
    dir: (value, options) => {
      const depth = options?.depth;
      print(OUT, shown(value, depth === null ? 1000 : typeof depth === "number" ? depth : DEPTH));
    },
    table,
    group(...args) {
      if (args.length > 0) {
        print(OUT, format(args));
      }
      indent += "  ";
    },
    groupEnd() {
      indent = slice(indent, 2);
    },
    count(name) {
      const key = label(name);
      counts[key] = (counts[key] ?? 0) + 1;
      print(OUT, `${key}: ${counts[key]}`);
    },
    countReset(name) {
      delete counts[label(name)];
    },
    time(name) {
      timers[label(name)] = now();
    },
    timeLog(name, ...args) {
      const text = elapsed(label(name));
      if (text !== undefined) {
        print(OUT, args.length === 0 ? text : `${text} ${format(args)}`);
      }
    },
    timeEnd(name) {
      const text = elapsed(label(name));
      if (text !== undefined) {
        delete timers[label(name)];
        print(OUT, text);
      }
    },
  };
  console.groupCollapsed = console.group;
  console.dirxml = console.log;
  define(console, toStringTag, { __proto__: null, value: "console", configurable: true });
  install(globalThis, "console", console);

  return {
    __proto__: null,
    // A value in a few words, for a message.
    brief: (value) => shown(value),
  };
});
