'use strict';
// The adapter's half that runs inside Node.js: loads one function at a time and calls
// it. What it needs at tenant time it binds here: a function may replace JSON.stringify
// or fs.readSync for its own use, and must not thereby change how it is called.

const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const url = require('node:url');
const v8 = require('node:v8');
const vm = require('node:vm');
const zlib = require('node:zlib');
const http = require('node:http');
const { Writable } = require('node:stream');
const crypto = require('node:crypto');
const Module = require('node:module');
const { inspect, types } = require('node:util');

const REQUESTS = 3;
const ANSWERS = 4;
const HEADER_BYTES = 5;
// The exit status by which the supervisor knows.
const CHANNEL_BROKE = 70;
const TEXT_LIMIT = 64 * 1024;

const { readSync, writeSync } = fs;
const { parse, stringify } = JSON;
const { randomFillSync } = crypto;
const { setFlagsFromString } = v8;
const random = Math.random;
const after = setImmediate;
const exit = process.exit;
const now = Date.now;
const Failure = Error;
const { slice, toWellFormed } = String.prototype;

// Loaded into every snapshot, because functions load them again and again.
const COMMON = [
  'assert', 'async_hooks', 'buffer', 'child_process', 'constants', 'dns',
  'dns/promises', 'events', 'fs/promises', 'http', 'https', 'net',
  'perf_hooks', 'process', 'querystring', 'readline', 'stream',
  'stream/promises', 'string_decoder', 'timers', 'timers/promises', 'tls', 'tty',
  'util', 'util/types', 'worker_threads', 'diagnostics_channel', 'console',
];

// --- frames --------------------------------------------------------------------

const small = Buffer.allocUnsafeSlow(64 * 1024);

// A function can close or break them, and a worker without a channel is none.
function orEnd(transfer) {
  try {
    return transfer();
  } catch {
    exit(CHANNEL_BROKE);
  }
}

function fill(buffer, length) {
  for (let filled = 0; filled < length;) {
    const got = orEnd(() => readSync(REQUESTS, buffer, filled, length - filled, null));
    // The supervisor is gone, and its workers with it.
    if (got === 0) exit(0);
    filled += got;
  }
}

// Blocks the thread, and with it everything of the last call that still goes on.
function nextFrame() {
  fill(small, HEADER_BYTES);
  const length = small.readUInt32LE(0);
  const kind = small.latin1Slice(4, 5);
  const payload = length <= small.length ? small : Buffer.allocUnsafeSlow(length);
  fill(payload, length);
  return { kind, value: parse(payload.utf8Slice(0, length)) };
}

// Nobody hears what is answered before the snapshot.
let isWarming = false;

function answer(kind, text) {
  const length = Buffer.byteLength(text);
  const frame = newFrame(kind, length);
  frame.utf8Write(text, HEADER_BYTES);
  write(frame);
}

function newFrame(kind, length) {
  const frame = Buffer.allocUnsafe(HEADER_BYTES + length);
  frame.writeUInt32LE(length, 0);
  frame.latin1Write(kind, 4);
  return frame;
}

// Waits where nobody takes it, and with it everything of the call.
function write(frame) {
  if (isWarming) return;
  for (let written = 0; written < frame.length;) {
    written += orEnd(() => writeSync(ANSWERS, frame, written));
  }
}

// --- failures ------------------------------------------------------------------

// The adapter's own answer to what a tenant sent; has no frames to show.
class Refusal extends Failure {
  constructor(kind, message) {
    super(message);
    this.kind = kind;
  }
}

// Half of a surrogate pair has no UTF-8, in which all of it is told.
function bounded(text) {
  const told = text.length > TEXT_LIMIT ? slice.call(text, 0, TEXT_LIMIT) + ' …' : text;
  return toWellFormed.call(told);
}

// Frames of this adapter and of Node.js itself.
const OURS = /^\s+at .*(?:\[eval\]|node:)/;

// Causes of causes that are told.
const MOST_CAUSES = 8;

// The stack of an error, and those of what caused it and of what it is made of.
function told(error, before) {
  if (typeof error !== 'object' || error === null) return inspect(error);
  const stack = typeof error.stack === 'string' ? error.stack : String(error);
  const lines = stack.split('\n').filter((line) => !OURS.test(line));
  if (before.length === MOST_CAUSES || before.includes(error)) return lines.join('\n');
  const others = Array.isArray(error.errors) ? error.errors.map((it) => ['error', it]) : [];
  if (error.cause !== undefined) others.unshift(['cause', error.cause]);
  for (const [what, other] of others.slice(0, MOST_CAUSES)) {
    const [first, ...rest] = told(other, [...before, error]).split('\n');
    lines.push(`  [${what}]: ${first}`, ...rest.map((line) => `  ${line}`));
  }
  return lines.join('\n');
}

// Whatever a function throws, as text; a getter of it may throw in turn.
function describe(thrown) {
  try {
    if (thrown instanceof Refusal) {
      return { error_type: bounded(thrown.kind), message: bounded(thrown.message), stack: '' };
    }
    if (typeof thrown !== 'object' || thrown === null || typeof thrown.message !== 'string') {
      return { error_type: 'Error', message: bounded(inspect(thrown)), stack: '' };
    }
    const name = String(thrown.name || thrown.constructor?.name || 'Error');
    return {
      error_type: bounded(name),
      message: bounded(thrown.message),
      stack: bounded(told(thrown, [])),
    };
  } catch {
    return { error_type: 'Error', message: 'it cannot be described', stack: '' };
  }
}

// --- what is fresh after a restore ----------------------------------------------

const entropy = new Uint32Array(2);

// V8 seeds a context's Math.random at its first use, from this flag if it is set, and
// the snapshot has never used one. The flag has 31 bits; where in the sequence the
// tenant begins gives it some more. Threads that a function starts are to seed
// themselves, from OpenSSL: for them the flag is not set.
function seed(draw) {
  randomFillSync(entropy);
  setFlagsFromString(`--random-seed=${(entropy[0] >>> 1) || 1}`);
  for (let skipped = entropy[1] & 0xfff; skipped >= 0; skipped--) draw();
  setFlagsFromString('--random-seed=0');
}

// Of OpenSSL's generators, from the kernel.
let reseed = null;
// Of the C library's heap.
let fillHoles = null;

function afterRestore() {
  if (!reseed()) throw new Failure('OpenSSL finds no randomness');
  seed(random);
  if (isDrawn) refresh();
}

// Other contexts would be seeded by a generator that a rewind puts back.
const seeded = new WeakSet();
const { runInContext } = vm.Script.prototype;
const drawing = new vm.Script('Math.random');
vm.Script.prototype.runInContext = {
  runInContext(context, options) {
    if (typeof context === 'object' && !seeded.has(context) && vm.isContext(context)) {
      seeded.add(context);
      seed(runInContext.call(drawing, context));
    }
    return runInContext.call(this, context, options);
  },
}.runInContext;

// --- loading -------------------------------------------------------------------

const root = process.env.FUNCTION_ROOT || process.env.LAMBDA_TASK_ROOT || process.cwd();
let entry = null;
let takesContext = false;

// The function that the container's command names: its handler, and what it is.
let imported = null;

async function load(given) {
  entry = null;
  setVariablesOfCall();
  if (given.env) Object.assign(process.env, given.env);
  if (imported && given.handler === imported.handler && !given.binary && !given.code.trim()) {
    entry = imported.entry;
    takesContext = true;
    return;
  }
  const { space, name, isHandler } = await resolve(given);
  find(space, name, isHandler);
}

function splitHandler(handler) {
  const dot = handler.lastIndexOf('.');
  if (dot < 1 || dot === handler.length - 1) {
    throw new Refusal('EntryNotFound', `the handler '${handler}' is not of the form module.function`);
  }
  return [handler.slice(0, dot), handler.slice(dot + 1)];
}

// V8 compiles a function when it is called for the first time, and a rewind undoes that: what
// is compiled while it is loaded need not be at each first call.
async function compilingAll(loading) {
  setFlagsFromString('--no-lazy');
  try {
    return await loading();
  } finally {
    setFlagsFromString('--lazy');
  }
}

// Source text up to this many characters is compiled as a whole: a fraction of a millisecond.
const COMPILED_WHOLE = 64 * 1024;

async function resolve({ code, binary, main, handler }) {
  let [file, name] = handler ? splitHandler(handler) : [null, main ?? null];
  if (binary) {
    const directory = newDirectory();
    unpack(code, directory);
    // Archives expect to be run where their files are.
    process.chdir(directory);
    if (!file && name && name.includes('.')) [file, name] = splitHandler(name);
    return { space: await loadFile(directory, file), name, isHandler: Boolean(handler) };
  }
  if (code.trim()) {
    const loading = () => loadSource(code, file ?? 'function', name);
    const space = await (code.length > COMPILED_WHOLE ? loading() : compilingAll(loading));
    return { space, name, isHandler: Boolean(handler) };
  }
  if (handler) {
    return { space: await loadFile(root, file), name, isHandler: true };
  }
  throw new Refusal('EntryNotFound', 'there is no code to load');
}

const IDENTIFIER = /^[\p{ID_Start}$_][\p{ID_Continue}$\u200c\u200d]*$/u;
const IS_MODULE = /(?:^|[\s;}])(?:import[\s{*'"]|export[\s{*])/;

// Source text is a CommonJS module, unless only an ES module can be written like that.
async function loadSource(code, file, name) {
  const filename = path.join(root, `${file}.js`);
  const wanted = [...new Set([name, 'main', 'handler'])].filter((it) => it && IDENTIFIER.test(it));
  // Functions that are declared and not exported are found, too: on the last line, so
  // that the tenant's own keep their numbers.
  const found = wanted.map((it) => `${it}: typeof ${it} === 'undefined' ? undefined : ${it}`);
  const module = new Module(filename, undefined);
  module.filename = filename;
  module.paths = Module._nodeModulePaths(root);
  const source = `${code}\n;module.declared = {${found.join(', ')}};`;
  if (IS_MODULE.test(code) && !isScript(source, filename)) return loadModule(code, file);
  try {
    module._compile(source, filename);
  } catch (error) {
    // What is wrong with it is to be told of the tenant's lines, and not of ours.
    if (error instanceof SyntaxError) vm.compileFunction(code, SURROUNDINGS, { filename });
    throw error;
  }
  const { declared, exports: exported } = module;
  // What is exported goes before what is merely declared.
  const space = { ...declared };
  for (const it of wanted) {
    if (exported?.[it] !== undefined) space[it] = exported[it];
  }
  const is = wanted.some((it) => space[it] !== undefined);
  return is ? space : exported;
}

// What a CommonJS module finds around it.
const SURROUNDINGS = ['exports', 'require', 'module', '__filename', '__dirname'];

function isScript(source, filename) {
  try {
    new vm.Script(Module.wrap(source), { filename });
    return true;
  } catch {
    return false;
  }
}

// An ES module has to be a file: only from one can it import what stands beside it. It
// goes with all that a tenant leaves.
async function loadModule(code, file) {
  const directory = newDirectory();
  const filename = path.join(directory, `${path.basename(file)}.mjs`);
  fs.writeFileSync(filename, code);
  // Packages are looked for in directories called node_modules above it.
  const packages = path.join(root, 'node_modules');
  if (fs.existsSync(packages)) fs.symlinkSync(packages, path.join(directory, 'node_modules'));
  return import(url.pathToFileURL(filename).href);
}

// What a directory's package.json names as its main file, or the file that a handler names.
async function loadFile(directory, file) {
  const require = Module.createRequire(path.join(directory, 'index.js'));
  const target = file ? path.join(directory, file) : directory;
  let filename;
  try {
    filename = require.resolve(target);
  } catch {
    filename = ['.mjs', '.cjs', '/index.mjs', '/index.cjs']
      .map((ending) => target + ending)
      .find((candidate) => fs.existsSync(candidate));
  }
  if (!filename) {
    const what = file ? `a module '${file}'` : 'an index.js, nor a package.json that names another file';
    const listing = fs.readdirSync(directory).slice(0, 20).join(', ');
    throw new Refusal('EntryNotFound', `there is not ${what}; there is ${listing}`);
  }
  if (filename.endsWith('.mjs')) return import(url.pathToFileURL(filename).href);
  try {
    return require(filename);
  } catch (error) {
    if (error?.code === 'ERR_REQUIRE_ESM') return import(url.pathToFileURL(filename).href);
    throw error;
  }
}

function newDirectory() {
  return fs.mkdtempSync(path.join(os.tmpdir(), 'function-'));
}

// --- archives ------------------------------------------------------------------

const ARCHIVE_LIMIT = 512 * 1024 * 1024;
const ARCHIVE_ENTRIES = 50_000;
const BASE64 = /^[A-Za-z0-9+/\s]*={0,2}\s*$/;

// Node.js has the compression, but no reader of zip files (APPNOTE.TXT).
function unpack(code, directory) {
  if (!BASE64.test(code)) throw new Refusal('BadArchive', 'the code is not base64');
  const archive = Buffer.from(code, 'base64');
  let total = 0;
  for (const entry of entriesOf(archive)) {
    total += entry.size;
    if (total > ARCHIVE_LIMIT) {
      throw new Refusal('BadArchive', `the archive unpacks to more than ${ARCHIVE_LIMIT} bytes`);
    }
    writeEntry(archive, entry, directory);
  }
}

function bad(what) {
  return new Refusal('BadArchive', `the code is not a usable zip archive: ${what}`);
}

function* entriesOf(archive) {
  const END_BYTES = 22;
  let end = archive.length - END_BYTES;
  const earliest = Math.max(0, end - 0xffff);
  while (end >= earliest && archive.readUInt32LE(end) !== 0x06054b50) end--;
  if (end < earliest) throw bad('it has no directory of what is in it');
  const count = archive.readUInt16LE(end + 10);
  if (count > ARCHIVE_ENTRIES) throw bad(`${count} entries; ${ARCHIVE_ENTRIES} are allowed`);
  let at = archive.readUInt32LE(end + 16);
  for (let number = 0; number < count; number++) {
    if (at + 46 > archive.length || archive.readUInt32LE(at) !== 0x02014b50) {
      throw bad('its directory is cut short');
    }
    const lengths = [28, 30, 32].map((offset) => archive.readUInt16LE(at + offset));
    const name = archive.utf8Slice(at + 46, at + 46 + lengths[0]);
    if (!name || name.startsWith('/') || name.includes('\\') || name.includes('\0') || name.split('/').includes('..')) {
      throw new Refusal('BadArchive', `the archive's entry '${name}' would lie outside its directory`);
    }
    const mode = archive.readUInt16LE(at + 40);
    const kind = mode & fs.constants.S_IFMT;
    if (kind !== 0 && kind !== fs.constants.S_IFREG && kind !== fs.constants.S_IFDIR) {
      throw new Refusal('BadArchive', `the archive's entry '${name}' is neither a file nor a directory`);
    }
    yield {
      name,
      mode,
      method: archive.readUInt16LE(at + 10),
      packed: archive.readUInt32LE(at + 20),
      size: archive.readUInt32LE(at + 24),
      at: archive.readUInt32LE(at + 42),
    };
    at += 46 + lengths[0] + lengths[1] + lengths[2];
  }
}

function writeEntry(archive, { name, mode, method, packed, size, at }, directory) {
  const target = path.join(directory, name);
  if (name.endsWith('/')) {
    fs.mkdirSync(target, { recursive: true });
    return;
  }
  if (at + 30 > archive.length || archive.readUInt32LE(at) !== 0x04034b50) throw bad(`'${name}' is not where it should be`);
  const from = at + 30 + archive.readUInt16LE(at + 26) + archive.readUInt16LE(at + 28);
  const data = archive.subarray(from, from + packed);
  let contents;
  if (method === 0) {
    contents = data;
  } else if (method === 8) {
    try {
      // No more than it says: the sum of that is bounded.
      contents = zlib.inflateRawSync(data, { maxOutputLength: size || 1 });
    } catch (error) {
      throw bad(`'${name}': ${error.message}`);
    }
  } else {
    throw bad(`'${name}' is packed in a way that is not known here`);
  }
  if (contents.length !== size) throw bad(`'${name}' is not as long as it says`);
  fs.mkdirSync(path.dirname(target), { recursive: true });
  fs.writeFileSync(target, contents, { mode: mode & 0o111 ? 0o755 : 0o644 });
}

function find(space, name, isHandler) {
  const inside = (key) => space?.[key] ?? space?.default?.[key];
  if (name) {
    entry = inside(name);
  } else if (typeof inside('main') === 'function') {
    entry = inside('main');
  } else if (typeof inside('handler') === 'function') {
    entry = inside('handler');
    isHandler = true;
  } else {
    entry = typeof space === 'function' ? space : space?.default;
  }
  if (typeof entry !== 'function') {
    const there = Object.keys(space ?? {}).filter((key) => typeof space[key] === 'function');
    const listing = there.length ? there.join(', ') : 'none';
    const wanted = name ?? 'main or handler';
    entry = null;
    throw new Refusal('EntryNotFound', `the function has no entry ${wanted}; it exports ${listing}`);
  }
  takesContext = isHandler;
}

// --- calling -------------------------------------------------------------------

// What ends the call or the load in hand; later words of it count for nothing.
let settle = null;
// What comes after it.
let next = wait;
// What then answers, when all that was printed is out.
let finish = null;

function begin(done) {
  const mine = (...outcome) => {
    if (settle !== mine) return;
    settle = null;
    finish = () => {
      finish = null;
      done(...outcome);
      after(next);
    };
    flush(finish);
  };
  settle = mine;
  return mine;
}

// Answers come after all that was printed before them.
function flush(then) {
  const streams = [process.stdout, process.stderr].filter((it) => it?.writableLength > 0);
  let left = streams.length;
  if (left === 0) return then();
  for (const stream of streams) {
    while (stream.writableCorked > 0) stream.uncork();
    stream.write('', () => {
      if (--left === 0) then();
    });
  }
}

// As Lambda has it. An answer does not wait for what else is in the event loop: between
// calls nothing goes on.
function contextOf({ id, deadline_unix_ms: deadline, caller }, callback) {
  const { env } = process;
  const name = env.AWS_LAMBDA_FUNCTION_NAME || 'function';
  const region = env.AWS_REGION || env.AWS_DEFAULT_REGION || 'us-east-1';
  const account = env.AWS_ACCOUNT_ID || '012345678912';
  const end = deadline ?? now() + (Number(env.AWS_LAMBDA_FUNCTION_TIMEOUT) || 900) * 1000;
  return {
    functionName: name,
    functionVersion: env.AWS_LAMBDA_FUNCTION_VERSION || '$LATEST',
    memoryLimitInMB: env.AWS_LAMBDA_FUNCTION_MEMORY_SIZE || '128',
    invokedFunctionArn: caller?.invoked_function_arn || `arn:aws:lambda:${region}:${account}:function:${name}`,
    logGroupName: env.AWS_LAMBDA_LOG_GROUP_NAME || `/aws/lambda/${name}`,
    logStreamName: env.AWS_LAMBDA_LOG_STREAM_NAME || '$LATEST',
    awsRequestId: id,
    callbackWaitsForEmptyEventLoop: true,
    clientContext: caller?.client_context,
    identity: caller?.cognito_identity,
    tenantId: caller?.tenant_id,
    getRemainingTimeInMillis: () => Math.max(0, end - now()),
    done: callback,
    fail: (error) => callback(error ?? new Failure('the function failed and gave no error')),
    succeed: (result) => callback(null, result),
  };
}

// What would be told as nothing at all, or as an empty object.
function unencodable(result) {
  if (typeof result === 'function') return 'a function';
  if (typeof result === 'symbol') return 'a symbol';
  if (types.isMap(result)) return 'a Map';
  if (types.isSet(result)) return 'a Set';
  return null;
}

function encode(result) {
  let text;
  const kind = unencodable(result);
  if (kind !== null && typeof result.toJSON !== 'function') {
    throw new Refusal('TypeError', `the result is not JSON: it is ${kind}`);
  }
  try {
    text = stringify(result);
  } catch (error) {
    const { error_type, message } = describe(error);
    throw new Refusal(error_type, `the result is not JSON: ${message}`);
  }
  return text === undefined ? 'null' : text;
}

// What the variables of the last call were before it: where nothing is put back between two
// calls, that one's trace would be taken for the next one's.
let beforeCall = [];

function setVariablesOfCall(variables) {
  const { env } = process;
  for (const [name, value] of beforeCall) {
    if (value === undefined) delete env[name];
    else env[name] = value;
  }
  beforeCall = variables ? Object.keys(variables).map((name) => [name, env[name]]) : [];
  Object.assign(env, variables);
}

function invoke(invocation) {
  const done = begin((failure, result) => {
    if (failure) return answer('x', stringify(describe(failure.thrown)));
    if (result === STREAMED) return answer('e', '');
    let text;
    try {
      text = encode(result);
    } catch (error) {
      return answer('x', stringify(describe(error)));
    }
    answer('v', text);
  });
  const fail = (thrown) => done({ thrown });
  const succeed = (result) => {
    if (!isStream(result)) return done(null, result);
    giveAll(result, new Pieces(done)).catch(fail);
  };
  try {
    if (!entry) throw new Refusal('NotLoaded', 'no function is loaded');
    setVariablesOfCall(invocation.env);
    if (entry[STREAMING] === 'response') {
      respond(invocation, new Pieces(done)).catch(fail);
      return;
    }
    const callback = (error, result) => (error ? fail(error) : succeed(result));
    const context = takesContext && contextOf(invocation, callback);
    const call = takesContext ? entry(invocation.data, context, callback) : entry(invocation.data);
    if (call !== null && typeof call === 'object' && typeof call.then === 'function') {
      call.then(succeed, fail);
    } else if (!(takesContext && entry.length > 2)) {
      succeed(call);
    }
  } catch (error) {
    fail(error);
  }
}

// --- answers in pieces -----------------------------------------------------------

// Bytes of one piece; what is longer is cut.
const MOST_PIECE_BYTES = 64 * 1024;
const STREAMED = Symbol('streamed');

function isStream(result) {
  if (typeof result !== 'object' || result === null) return false;
  return typeof result[Symbol.asyncIterator] === 'function'
    || (typeof result[Symbol.iterator] === 'function' && typeof result.next === 'function');
}

// An item's bytes, and the type of media that is made of such.
function pieceOf(item) {
  if (typeof item === 'string') return ['text/plain; charset=utf-8', Buffer.from(item)];
  if (ArrayBuffer.isView(item)) {
    return ['application/octet-stream', Buffer.from(item.buffer, item.byteOffset, item.byteLength)];
  }
  if (item instanceof ArrayBuffer) return ['application/octet-stream', Buffer.from(item)];
  return ['application/x-ndjson', Buffer.from(`${encode(item)}\n`)];
}

// The answer to one call, piece by piece.
class Pieces {
  #done;
  #isBegun = false;
  #head = { status: 200, headers: [] };

  constructor(done) {
    this.#done = done;
  }

  // The call has ended otherwise, and this is nobody's answer.
  get isOver() {
    return settle !== this.#done;
  }

  describe({ statusCode, headers, cookies }) {
    const status = Number(statusCode ?? 200);
    if (!(Number.isInteger(status) && status >= 200 && status <= 999)) {
      throw new RangeError(`${statusCode} is not the status of an answer`);
    }
    const pairs = Object.entries(headers ?? {}).flatMap(([name, value]) => [value].flat().map((it) => [name, String(it)]));
    for (const cookie of cookies ?? []) pairs.push(['set-cookie', String(cookie)]);
    for (const [name, value] of pairs) {
      http.validateHeaderName(name);
      http.validateHeaderValue(name, value);
    }
    this.#head = { status, headers: pairs };
  }

  setType(kind) {
    http.validateHeaderValue('content-type', kind);
    const others = this.#head.headers.filter(([name]) => name.toLowerCase() !== 'content-type');
    this.#head.headers = [...others, ['content-type', kind]];
  }

  begin(kind) {
    if (this.#isBegun) return;
    this.#isBegun = true;
    if (kind && !this.#head.headers.some(([name]) => name.toLowerCase() === 'content-type')) this.setType(kind);
    answer('h', stringify(this.#head));
  }

  give(item) {
    const [kind, bytes] = pieceOf(item);
    this.begin(kind);
    for (let at = 0; at < bytes.length; at += MOST_PIECE_BYTES) {
      const piece = bytes.subarray(at, at + MOST_PIECE_BYTES);
      const frame = newFrame('p', piece.length);
      frame.set(piece, HEADER_BYTES);
      write(frame);
    }
  }

  end() {
    if (this.isOver) return;
    this.begin();
    this.#done(null, STREAMED);
  }
}

async function giveAll(items, pieces) {
  for await (const item of items) {
    if (pieces.isOver) return;
    pieces.give(item);
  }
  pieces.end();
}

// --- Lambda's form of it -----------------------------------------------------------

// As Lambda's own runtime marks a handler.
const STREAMING = Symbol.for('aws.lambda.runtime.handler.streaming');
const underneath = new WeakMap();

class ResponseStream extends Writable {
  #pieces;

  constructor(pieces) {
    super({ decodeStrings: true });
    this.#pieces = pieces;
    underneath.set(this, pieces);
  }

  setContentType(kind) {
    this.#pieces.setType(kind);
  }

  _write(chunk, encoding, done) {
    try {
      if (!this.#pieces.isOver) this.#pieces.give(chunk);
      done();
    } catch (error) {
      done(error);
    }
  }
}

function offerStreaming() {
  const awslambda = {
    streamifyResponse(handler) {
      handler[STREAMING] = 'response';
      return handler;
    },
    HttpResponseStream: {
      from(stream, about) {
        underneath.get(stream).describe(about ?? {});
        return stream;
      },
    },
  };
  Object.defineProperty(globalThis, 'awslambda', { value: awslambda, writable: true, configurable: true });
}

async function respond(invocation, pieces) {
  const response = new ResponseStream(pieces);
  const finished = new Promise((resolve, reject) => {
    response.once('finish', resolve);
    response.once('error', reject);
  });
  const fail = () => { throw new Refusal('Error', 'a handler that streams its response returns, and is given no callback'); };
  await Promise.all([entry(invocation.data, response, contextOf(invocation, fail)), finished]);
  pieces.end();
}

function handle({ kind, value }) {
  if (kind === 'I') return invoke(value);
  if (kind !== 'L') exit(CHANNEL_BROKE);
  if (!isWarming) afterRestore();
  const done = begin((failure) => {
    answer('l', stringify(failure ? describe(failure.thrown) : null));
  });
  const loaded = () => {
    rehearse();
    after(() => done(null));
  };
  load(value).then(loaded, (thrown) => done({ thrown }));
}

// Makes a call of a function of ours in the way of all calls: a load leaves little of that in
// the processor's caches, and the first call would have to wait for it.
const REHEARSAL = '{"id":"0","deadline_unix_ms":1,"data":{"name":["value",1]}}';

function rehearse() {
  const printing = [process.stdout, process.stderr].some((it) => it?.writableLength > 0);
  if (printing) return;
  const kept = { entry, takesContext, settle, next, isWarming };
  // Of a kind that no function can have made something else of.
  entry = (argument) => argument.name[0];
  takesContext = false;
  isWarming = true;
  next = () => {};
  invoke(parse(REHEARSAL));
  ({ entry, takesContext, settle, next, isWarming } = kept);
}

// Here the snapshot is taken.
function wait() {
  handle(nextFrame());
}

process.on('uncaughtException', (error) => settle?.({ thrown: error }));
process.on('beforeExit', () => {
  const error = new Refusal(
    'Unsettled',
    'the call will never end: nothing is left that could settle its promise or call its callback',
  );
  settle?.({ thrown: error });
  // A stream that a function broke has nothing more to say.
  finish?.();
});

// --- boot ----------------------------------------------------------------------

function boot() {
  const [addon, handler, ...packages] = process.argv.slice(1);
  const native = { exports: {} };
  process.dlopen(native, addon);
  ({ reseed, fillHoles } = native.exports);
  process.argv = [process.execPath, ''];
  // What --eval leaves for its script is no function's.
  for (const name of ['module', 'exports', '__filename', '__dirname', 'require', ...Module.builtinModules]) {
    const own = Object.getOwnPropertyDescriptor(globalThis, name);
    if (own?.configurable && !['console', 'process', 'crypto'].includes(name)) delete globalThis[name];
  }
  offerStreaming();
  for (const name of COMMON) Module.createRequire(path.join(root, 'x'))(`node:${name}`);
  process.stdout;
  process.stderr;
  return { handler, packages };
}

// What the snapshot has drawn from is no more fresh after a restore. V8 seeds a context's
// Math.random once, and some of crypto's functions read ahead: sixteen bytes for each of
// 128 names, six for each of 1024 numbers. So there is another Math.random, and the first
// call of those functions throws away as much as can have been read ahead: few tenants make
// one, and it takes half a millisecond.
const words = new Uint32Array(4);

function nextWord() {
  const [, turned] = words;
  const drawn = multiply(rotated(multiply(turned, 5), 7), 9) >>> 0;
  words[2] ^= words[0];
  words[3] ^= words[1];
  words[1] ^= words[2];
  words[0] ^= words[3];
  words[2] ^= turned << 9;
  words[3] = rotated(words[3], 11);
  return drawn;
}

const multiply = Math.imul;
const rotated = (word, by) => (word << by) | (word >>> (32 - by));
const { randomInt, randomUUID } = crypto;
const readAhead = {
  names: { isOld: false, discard() { for (let name = 0; name < 128; name++) randomUUID(); } },
  numbers: { isOld: false, discard() { for (let number = 0; number < 1024; number++) randomInt(2); } },
};
let isDrawn = false;

function refresh() {
  randomFillSync(words);
}

function renew(ahead) {
  if (!ahead.isOld) return;
  ahead.isOld = false;
  ahead.discard();
}

// Before the first package: what it is given it keeps.
function expectDraws() {
  isDrawn = true;
  refresh();
  // xoshiro128** (https://prng.di.unimi.it), 53 bits of two numbers.
  const drawing = { random: () => (nextWord() * 0x200000 + (nextWord() >>> 11)) / 2 ** 53 };
  Math.random = drawing.random;
  const { names, numbers } = readAhead;
  const drawn = {
    randomUUID(options) {
      renew(names);
      return randomUUID(options);
    },
    randomInt(min, max, callback) {
      renew(numbers);
      return randomInt(min, max, callback);
    },
  };
  Object.assign(crypto, drawn);
  const ofTheWeb = Object.getPrototypeOf(crypto.webcrypto);
  const { randomUUID: named } = ofTheWeb;
  ofTheWeb.randomUUID = {
    randomUUID() {
      renew(names);
      return named.call(this);
    },
  }.randomUUID;
  Module.syncBuiltinESMExports();
}

// From here on it is the snapshot's.
function expectRestores() {
  for (const ahead of Object.values(readAhead)) ahead.isOld = true;
}

// A module that fails when nobody waits for it any more fails the import all the same.
async function importFunction(handler) {
  settle = ({ thrown }) => giveUp(thrown);
  const { space, name } = await compilingAll(() => resolve({ code: '', handler }));
  find(space, name, true);
  imported = { handler, entry };
  entry = null;
  settle = null;
}

async function preload(packages) {
  const require = Module.createRequire(path.join(root, 'index.js'));
  for (const name of packages) {
    try {
      require(name);
    } catch (error) {
      if (error?.code !== 'ERR_REQUIRE_ESM') throw error;
      await import(url.pathToFileURL(require.resolve(name)).href);
    }
  }
}

const WARM = [
  { code: `class Refused extends TypeError {}
    function main(args) {
      if (args.raise) throw new Refused('warm');
      return { echo: args, numbers: [1, 2.5, null, true], text: '\u00fc' };
    }` },
  { code: 'exports.main = async (args) => { if (args.raise) throw new Error("warm"); return args; };', main: 'main' },
  { code: 'exports.main = async function* (args) { yield "a"; if (args.raise) throw new Error("warm"); yield args; };', main: 'main' },
  { code: 'exports.handler = (event, context, callback) => callback(event.raise ? new Error("warm") : null, event);', handler: 'function.handler' },
  { code: 'function main( {' },
];

// Until V8 has optimized what it will: what was left would be optimized again after every
// restore, beside a call (node --trace-opt shows it).
const WARM_ROUNDS = 30;

// Goes the way of every load and call with functions of our own, so that what V8
// compiles and caches on the way is in the snapshot, and no tenant pays for it again.
async function warm() {
  isWarming = true;
  const turn = (kind, value) => new Promise((go) => {
    next = go;
    handle({ kind, value });
  });
  for (let round = 0; round < WARM_ROUNDS; round++) {
    for (const given of WARM) {
      await turn('L', given);
      for (const data of [{ a: [1, 2.5, 'x'], b: null }, { raise: true }]) {
        await turn('I', { id: 'warm', deadline_unix_ms: now(), data });
      }
    }
  }
  randomFillSync(entropy);
  setFlagsFromString('--random-seed=0');
  entry = null;
  isWarming = false;
  next = wait;
}

async function ready({ handler, packages }) {
  if (handler || packages.length > 0) expectDraws();
  await preload(packages);
  await warm();
  if (handler) await importFunction(handler);
  expectRestores();
  setFlagsFromString('--expose-gc');
  const gc = vm.runInNewContext('gc');
  setFlagsFromString('--no-expose-gc');
  gc();
  fillHoles();
  answer('r', stringify({ name: 'nodejs', version: process.versions.node }));
  // On a stack of its own: what comes of it is not this function's failure.
  after(wait);
}

function giveUp(error) {
  isWarming = false;
  answer('x', stringify(describe(error)));
  exit(1);
}

try {
  const given = boot();
  // The first thing that is asked of a file starts the pool's threads.
  fs.stat('/', () => after(() => ready(given).catch(giveUp)));
} catch (error) {
  giveUp(error);
}
