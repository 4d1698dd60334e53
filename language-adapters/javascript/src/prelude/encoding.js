// TextEncoder, TextDecoder, atob and btoa.
(function (natives, own) {
  "use strict";
  const {
    DOMException, RangeError, String, TypeError, Uint8Array, dataViewBuffer,
    dataViewByteLength, dataViewOffset, install, isView, slice, charCodeAt, tagOf, toWellFormed,
    typedBuffer, typedByteLength, typedLength, typedOffset, typedSet, viewTag, define, toStringTag,
  } = own;

  // The bytes of a buffer or a view, not copied.
  function bytesOf(source) {
    if (isView(source)) {
      return viewTag(source) === undefined
        ? new Uint8Array(dataViewBuffer(source), dataViewOffset(source), dataViewByteLength(source))
        : new Uint8Array(typedBuffer(source), typedOffset(source), typedByteLength(source));
    }
    const tag = tagOf(source);
    if (tag === "[object ArrayBuffer]" || tag === "[object SharedArrayBuffer]") {
      return new Uint8Array(source);
    }
    throw new TypeError("expected an ArrayBuffer, or a view of one");
  }

  class TextEncoder {
    get encoding() {
      return "utf-8";
    }
    encode(text = "") {
      return natives.encodeUtf8(toWellFormed(String(text)));
    }
    encodeInto(text, target) {
      text = toWellFormed(String(text));
      if (!isView(target) || viewTag(target) !== "Uint8Array") {
        throw new TypeError("encodeInto() writes to a Uint8Array");
      }
      const room = typedLength(target);
      let read = 0;
      let written = 0;
      while (read < text.length) {
        const unit = charCodeAt(text, read);
        const units = unit >= 0xd800 && unit < 0xdc00 ? 2 : 1;
        const bytes = unit < 0x80 ? 1 : unit < 0x800 ? 2 : units === 2 ? 4 : 3;
        if (written + bytes > room) {
          break;
        }
        read += units;
        written += bytes;
      }
      typedSet(target, natives.encodeUtf8(slice(text, 0, read)));
      return { read, written };
    }
  }

  class TextDecoder {
    #encoding;
    #fatal;
    #ignoreBOM;
    // What a stream gave that is not a whole character yet.
    #rest = undefined;
    #begun = false;

    constructor(label = "utf-8", options = undefined) {
      const encoding = natives.encodingOf(String(label));
      if (encoding === undefined) {
        throw new RangeError(`the encoding ${String(label)} is not there: utf-8, utf-16le, utf-16be and windows-1252 are`);
      }
      this.#encoding = encoding;
      this.#fatal = !!options?.fatal;
      this.#ignoreBOM = !!options?.ignoreBOM;
    }
    get encoding() {
      return this.#encoding;
    }
    get fatal() {
      return this.#fatal;
    }
    get ignoreBOM() {
      return this.#ignoreBOM;
    }
    decode(source = undefined, options = undefined) {
      let bytes = source === undefined ? new Uint8Array(0) : bytesOf(source);
      const isLast = !options?.stream;
      const rest = this.#rest;
      if (rest !== undefined) {
        const whole = new Uint8Array(typedLength(rest) + typedLength(bytes));
        typedSet(whole, rest);
        typedSet(whole, bytes, typedLength(rest));
        bytes = whole;
        this.#rest = undefined;
      }
      const decoded = natives.decode(this.#encoding, bytes, isLast);
      if (decoded.malformed && this.#fatal) {
        this.#begun = false;
        throw new TypeError(`the data is not valid ${this.#encoding}`);
      }
      if (!isLast && decoded.used < typedLength(bytes)) {
        const left = typedLength(bytes) - decoded.used;
        const kept = new Uint8Array(left);
        typedSet(kept, new Uint8Array(typedBuffer(bytes), typedOffset(bytes) + decoded.used, left));
        this.#rest = kept;
      }
      let text = decoded.text;
      if (text !== "") {
        if (!this.#begun && !this.#ignoreBOM && charCodeAt(text, 0) === 0xfeff) {
          text = slice(text, 1);
        }
        this.#begun = true;
      }
      if (isLast) {
        this.#begun = false;
      }
      return text;
    }
  }

  // QuickJS has these two, and with them a `DOMException` in the first context only.
  function converted(convert, text) {
    const result = convert(toWellFormed(String(text)));
    if (result === undefined) {
      throw new DOMException("the text has a character that cannot be there", "InvalidCharacterError");
    }
    return result;
  }
  install(globalThis, "atob", function atob(text) {
    return converted(natives.fromBase64, text);
  });
  install(globalThis, "btoa", function btoa(text) {
    return converted(natives.toBase64, text);
  });

  for (const [name, kind] of [["TextEncoder", TextEncoder], ["TextDecoder", TextDecoder]]) {
    define(kind.prototype, toStringTag, { __proto__: null, value: name, configurable: true });
    install(globalThis, name, kind);
  }
  return { __proto__: null, bytesOf };
});
