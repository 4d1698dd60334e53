// The part of Web Cryptography that needs nothing but the kernel's randomness.
(function (natives, own) {
  "use strict";
  const {
    DOMException, Uint8Array, define, install, isView, numberToString, toStringTag, typedBuffer,
    typedByteLength, typedOffset, typedSet, viewTag,
  } = own;
  const { entropy } = natives;
  const MOST = 65536;
  const HEX = [];
  for (let byte = 0; byte < 256; byte++) {
    HEX[byte] = (byte < 16 ? "0" : "") + numberToString(byte, 16);
  }

  class Crypto {
    getRandomValues(view) {
      const tag = isView(view) ? viewTag(view) : undefined;
      if (tag === undefined || tag === "Float32Array" || tag === "Float64Array" || tag === "Float16Array") {
        throw new DOMException("getRandomValues() fills typed arrays of integers", "TypeMismatchError");
      }
      const length = typedByteLength(view);
      if (length > MOST) {
        throw new DOMException(`getRandomValues() gives at most ${MOST} bytes, not ${length}`, "QuotaExceededError");
      }
      typedSet(new Uint8Array(typedBuffer(view), typedOffset(view), length), entropy(length));
      return view;
    }
    randomUUID() {
      const bytes = entropy(16);
      bytes[6] = (bytes[6] & 0x0f) | 0x40;
      bytes[8] = (bytes[8] & 0x3f) | 0x80;
      let text = "";
      for (let index = 0; index < 16; index++) {
        text += (index === 4 || index === 6 || index === 8 || index === 10 ? "-" : "") + HEX[bytes[index]];
      }
      return text;
    }
  }
  define(Crypto.prototype, toStringTag, { __proto__: null, value: "Crypto", configurable: true });
  install(globalThis, "crypto", new Crypto());
});
