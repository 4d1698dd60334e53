// CommonJS. What a name means and what a file is, is found outside.
(function (natives, own, tools) {
  "use strict";
  const { String, TypeError, apply, define } = own;
  const cache = { __proto__: null };

  function requireFrom(base) {
    const require = function require(specifier) {
      if (typeof specifier !== "string" || specifier === "") {
        throw new TypeError("require() takes the name of a module");
      }
      return load(natives.resolve(base, specifier)).exports;
    };
    require.resolve = (specifier) => natives.pathOf(natives.resolve(base, String(specifier)));
    return require;
  }

  function load(name) {
    return cache[name] ?? evaluate(name, natives.commonJs(name)).module;
  }

  // `body` is a module's text as a function, or the value of one in JSON.
  function evaluate(name, body) {
    const filename = natives.pathOf(name);
    const dirname = natives.pathOf(natives.directoryOf(name));
    const module = { id: name, filename, path: dirname, exports: {}, loaded: false, children: [], paths: [] };
    cache[name] = module;
    let locals;
    try {
      if (typeof body === "function") {
        const require = requireFrom(name);
        define(module, "require", { __proto__: null, value: require, writable: true, configurable: true });
        locals = apply(body, module.exports, [module.exports, require, module, filename, dirname]);
      } else {
        module.exports = body.value;
      }
      module.loaded = true;
    } finally {
      // Whoever asks again is told again what is wrong with it.
      if (!module.loaded) {
        delete cache[name];
      }
    }
    return { __proto__: null, module, locals };
  }

  return {
    __proto__: null,
    // For the ECMAScript module that stands for this one.
    loaderOf: (name) => () => load(name).exports,
    // The module with the function itself: its exports, and what its last line gives.
    evaluateEntry: (name, body) => tools.watch(() => {
      const { module, locals } = evaluate(name, body);
      return { __proto__: null, exports: module.exports, locals };
    }),
    // The same of an ECMAScript module, whose namespace a promise gives.
    importEntry: (promise) => tools.watch(async () => ({ __proto__: null, exports: await promise, locals: undefined })),
  };
});
