// URL and URLSearchParams. Parsing is the `url` crate's; an object keeps the parts.
(function (natives, own) {
  "use strict";
  const { String, TypeError, define, install, iterator, slice, toStringTag, toWellFormed } = own;
  const { parseUrl, changeUrl, parseForm, encodeForm } = natives;
  const textOf = (thing) => toWellFormed(String(thing));

  class URLSearchParams {
    // Names and values in turn; no prototype, like all that a function could confuse.
    #list = { __proto__: null, length: 0 };
    #url = undefined;

    constructor(init = "") {
      if (typeof init === "object" && init !== null) {
        this.#take(init);
      } else {
        const text = textOf(init);
        this.#parse(text[0] === "?" ? slice(text, 1) : text);
      }
    }
    #take(init) {
      if (#list in init) {
        for (let index = 0; index < init.#list.length; index++) {
          this.#push(init.#list[index]);
        }
      } else if (typeof init[iterator] === "function") {
        for (const pair of init) {
          const parts = [...pair];
          if (parts.length !== 2) {
            throw new TypeError("each pair must have a name and a value");
          }
          this.#push(textOf(parts[0]));
          this.#push(textOf(parts[1]));
        }
      } else {
        for (const name of own.ownKeys(init)) {
          if (own.isEnumerable(init, name)) {
            this.#push(textOf(name));
            this.#push(textOf(init[name]));
          }
        }
      }
    }
    #push(text) {
      this.#list[this.#list.length++] = text;
    }
    #parse(text) {
      const parts = parseForm(text);
      this.#list = { __proto__: null, length: 0 };
      for (let index = 0; index < parts.length; index++) {
        this.#push(parts[index]);
      }
    }
    #flat() {
      const flat = [];
      for (let index = 0; index < this.#list.length; index++) {
        own.define(flat, index, { __proto__: null, value: this.#list[index], enumerable: true });
      }
      return flat;
    }
    #changed() {
      this.#url?.(this.toString());
    }
    #keep(keeps) {
      const before = this.#list;
      this.#list = { __proto__: null, length: 0 };
      for (let index = 0; index < before.length; index += 2) {
        if (keeps(before[index], before[index + 1])) {
          this.#push(before[index]);
          this.#push(before[index + 1]);
        }
      }
    }
    get size() {
      return this.#list.length / 2;
    }
    append(name, value) {
      this.#push(textOf(name));
      this.#push(textOf(value));
      this.#changed();
    }
    delete(name, value = undefined) {
      name = textOf(name);
      value = value === undefined ? undefined : textOf(value);
      this.#keep((key, has) => key !== name || (value !== undefined && has !== value));
      this.#changed();
    }
    get(name) {
      name = textOf(name);
      for (let index = 0; index < this.#list.length; index += 2) {
        if (this.#list[index] === name) {
          return this.#list[index + 1];
        }
      }
      return null;
    }
    getAll(name) {
      name = textOf(name);
      const found = [];
      for (let index = 0; index < this.#list.length; index += 2) {
        if (this.#list[index] === name) {
          install(found, found.length, this.#list[index + 1]);
        }
      }
      return [...found];
    }
    has(name, value = undefined) {
      name = textOf(name);
      value = value === undefined ? undefined : textOf(value);
      for (let index = 0; index < this.#list.length; index += 2) {
        if (this.#list[index] === name && (value === undefined || this.#list[index + 1] === value)) {
          return true;
        }
      }
      return false;
    }
    set(name, value) {
      name = textOf(name);
      value = textOf(value);
      let isFirst = true;
      const list = this.#list;
      for (let index = 0; index < list.length && isFirst; index += 2) {
        if (list[index] === name) {
          list[index + 1] = value;
          isFirst = false;
        }
      }
      if (isFirst) {
        this.#push(name);
        this.#push(value);
      } else {
        let seen = false;
        this.#keep((key) => key !== name || (!seen && (seen = true)));
      }
      this.#changed();
    }
    sort() {
      const list = this.#list;
      // By insertion: equal names keep their order, and lists are short.
      for (let index = 2; index < list.length; index += 2) {
        const name = list[index];
        const value = list[index + 1];
        let at = index;
        for (; at > 0 && list[at - 2] > name; at -= 2) {
          list[at] = list[at - 2];
          list[at + 1] = list[at - 1];
        }
        list[at] = name;
        list[at + 1] = value;
      }
      this.#changed();
    }
    forEach(callback, self = undefined) {
      for (let index = 0; index < this.#list.length; index += 2) {
        own.apply(callback, self, [this.#list[index + 1], this.#list[index], this]);
      }
    }
    *entries() {
      for (let index = 0; index < this.#list.length; index += 2) {
        yield [this.#list[index], this.#list[index + 1]];
      }
    }
    *keys() {
      for (let index = 0; index < this.#list.length; index += 2) {
        yield this.#list[index];
      }
    }
    *values() {
      for (let index = 0; index < this.#list.length; index += 2) {
        yield this.#list[index + 1];
      }
    }
    toString() {
      return encodeForm(this.#flat());
    }
    static bind(params, query, changed) {
      params.#parse(query);
      params.#url = changed;
    }
  }
  // The URL that a list belongs to; not for functions.
  const bindTo = URLSearchParams.bind;
  delete URLSearchParams.bind;
  install(URLSearchParams.prototype, iterator, URLSearchParams.prototype.entries);

  class URL {
    #parts;
    #params = undefined;

    constructor(url, base = undefined) {
      const parts = parseUrl(textOf(url), base === undefined ? undefined : textOf(base));
      if (parts === undefined) {
        throw new TypeError(`Invalid URL: ${textOf(url)}`);
      }
      this.#parts = parts;
    }
    #change(part, value) {
      const parts = changeUrl(this.#parts.href, part, textOf(value));
      if (parts === undefined) {
        if (part === "href") {
          throw new TypeError(`Invalid URL: ${textOf(value)}`);
        }
        return;
      }
      this.#parts = parts;
    }
    #follow() {
      if (this.#params !== undefined) {
        this.#bind();
      }
    }
    #bind() {
      const search = this.#parts.search;
      bindTo(this.#params, slice(search, 1), (query) => this.#change("search", query));
    }
    get href() {
      return this.#parts.href;
    }
    set href(value) {
      this.#change("href", value);
      this.#follow();
    }
    get origin() {
      return this.#parts.origin;
    }
    get protocol() {
      return this.#parts.protocol;
    }
    set protocol(value) {
      this.#change("protocol", value);
    }
    get username() {
      return this.#parts.username;
    }
    set username(value) {
      this.#change("username", value);
    }
    get password() {
      return this.#parts.password;
    }
    set password(value) {
      this.#change("password", value);
    }
    get host() {
      return this.#parts.host;
    }
    set host(value) {
      this.#change("host", value);
    }
    get hostname() {
      return this.#parts.hostname;
    }
    set hostname(value) {
      this.#change("hostname", value);
    }
    get port() {
      return this.#parts.port;
    }
    set port(value) {
      this.#change("port", value);
    }
    get pathname() {
      return this.#parts.pathname;
    }
    set pathname(value) {
      this.#change("pathname", value);
    }
    get search() {
      return this.#parts.search;
    }
    set search(value) {
      this.#change("search", value);
      this.#follow();
    }
    get hash() {
      return this.#parts.hash;
    }
    set hash(value) {
      this.#change("hash", value);
    }
    get searchParams() {
      if (this.#params === undefined) {
        this.#params = new URLSearchParams();
        this.#bind();
      }
      return this.#params;
    }
    toString() {
      return this.#parts.href;
    }
    toJSON() {
      return this.#parts.href;
    }
    static canParse(url, base = undefined) {
      return parseUrl(textOf(url), base === undefined ? undefined : textOf(base)) !== undefined;
    }
    static parse(url, base = undefined) {
      return URL.canParse(url, base) ? new URL(url, base) : null;
    }
  }

  for (const [name, kind] of [["URL", URL], ["URLSearchParams", URLSearchParams]]) {
    define(kind.prototype, toStringTag, { __proto__: null, value: name, configurable: true });
    install(globalThis, name, kind);
  }
});
