//! One Lua state with one function in it.

use std::cell::RefCell;
use std::ffi::OsString;
use std::rc::Rc;
use std::time::{SystemTime, UNIX_EPOCH};

use mlua::chunk::ChunkMode;
use mlua::{Function, Lua, LuaString, MultiValue, Table, Thread, Value};
use refunction_adapter::archive::Archive;
use refunction_adapter::given::listing;
use refunction_adapter::sabotage::altered;
use refunction_adapter::{Answer, Exception, Head, Invocation};
use serde_json::value::RawValue;

use crate::embed;
use crate::files;
use crate::json::Json;
use crate::sabotage::{self, leaves_out};

const PRELUDE: &str = include_str!("prelude.lua");

/// What a function may hold in memory, after which it gets an error: the container's own
/// limit would end it without a word.
const HEAP_BYTES: usize = 512 * 1024 * 1024;

/// How much of a message or stack is passed on.
const MOST_CHARACTERS: usize = 64 * 1024;

/// Where the image's own Lua modules lie, below the function's.
const MODULES: [&str; 2] = ["/usr/local/share/lua/5.4", "/usr/share/lua/5.4"];

/// A text to run, and where its entry is.
pub(crate) struct Place<'a> {
    pub(crate) text: Vec<u8>,
    pub(crate) file: String,
    /// The entry's name, if somebody said so.
    pub(crate) attribute: Option<&'a str>,
    pub(crate) is_handler: bool,
}

pub(crate) struct State {
    lua: Lua,
    json: Json,
    archive: Rc<RefCell<Option<Archive>>>,
    start: Function,
    call: Function,
    preload: Function,
    go_on: Function,
    stop: Function,
    seed: Function,
    pieces: RefCell<Option<Pieces>>,
}

/// What gives the pieces of an answer, and the first of them.
struct Pieces {
    from: Thread,
    first: Option<Vec<u8>>,
}

impl State {
    /// A state in which no function was loaded yet, and whose generator is fresh.
    pub(crate) fn new(root: Option<&OsString>) -> Result<Self, String> {
        let state = Self::build(root).map_err(|error| error.to_string())?;
        state.reseed()?;
        Ok(state)
    }

    fn build(root: Option<&OsString>) -> mlua::Result<Self> {
        let lua = embed::state();
        lua.set_memory_limit(HEAP_BYTES)?;
        let json = Json::new(&lua)?;
        let archive = Rc::new(RefCell::new(None));
        let natives = natives(&lua, &json, &archive)?;
        let path = lua.create_string(search_path(root))?;
        let (start, call, preload, go_on, stop) = lua
            .load(&*altered(PRELUDE, sabotage::LINES))
            .set_name("=refunction")
            .set_mode(ChunkMode::Text)
            .call((natives, path))?;
        let seed = lua.globals().get::<Table>("math")?.get("randomseed")?;
        Ok(Self {
            lua,
            json,
            archive,
            start,
            call,
            preload,
            go_on,
            stop,
            seed,
            pieces: RefCell::default(),
        })
    }

    /// The language's version, such as `5.4`.
    pub(crate) fn version(&self) -> String {
        let version: String = self.lua.globals().get("_VERSION").unwrap_or_default();
        version.trim_start_matches("Lua ").to_owned()
    }

    /// Has `math.random` begin anew, from a seed of the kernel's.
    pub(crate) fn reseed(&self) -> Result<(), String> {
        let draw = || getrandom::u64().map(u64::cast_signed);
        let (high, low) = draw()
            .and_then(|high| Ok((high, draw()?)))
            .map_err(|error| error.to_string())?;
        self.seed
            .call((high, low))
            .map_err(|error| error.to_string())
    }

    /// Collects all that can be.
    pub(crate) fn collect(&self) -> Result<(), String> {
        self.lua.gc_collect().map_err(|error| error.to_string())
    }

    /// Runs a module of the image's.
    pub(crate) fn preload(&self, library: &str) -> Result<(), Exception> {
        let answer = self.preload.call::<MultiValue>(library);
        outcome(answer.map_err(|error| internal(&error))?).map(drop)
    }

    /// Loads a tenant's function; its modules are searched in the archive first.
    pub(crate) fn load(&self, place: Place<'_>, archive: Option<Archive>) -> Result<(), Exception> {
        self.archive.replace(archive);
        let text = self.lua.create_string(&place.text);
        let answer = text
            .and_then(|text| {
                let how = (place.attribute, place.is_handler);
                self.start
                    .call::<MultiValue>((text, place.file, how.0, how.1))
            })
            .map_err(|error| internal(&error));
        embed::flush();
        outcome(answer?).map(drop)
    }

    /// Calls the function.
    pub(crate) fn answer(&self, invocation: &Invocation) -> Result<Answer, Exception> {
        if !leaves_out("lua:pieces-of-a-call") {
            self.pieces.replace(None);
        }
        let answer = self.call(invocation);
        embed::flush();
        let result = outcome(answer?)?.unwrap_or(Value::Nil);
        if let Value::Thread(from) = result {
            return self.begin(from).map(Answer::Streamed);
        }
        let text = self
            .json
            .encode("the result", &result)
            .map_err(|reason| refusal("NotJSON", reason))?;
        RawValue::from_string(text)
            .map(Answer::Whole)
            .map_err(|error| refusal("NotJSON", format!("the result is not JSON: {error}")))
    }

    /// Asks for the first piece, which says what the answer is.
    fn begin(&self, from: Thread) -> Result<Head, Exception> {
        let first = self.pull(&from)?;
        let head = match &first {
            Some((kind, _)) => Head::of_type(kind),
            None => Head {
                status: 200,
                headers: Vec::new(),
            },
        };
        if let Some((_, first)) = first {
            let first = Some(first);
            self.pieces.replace(Some(Pieces { from, first }));
        }
        Ok(head)
    }

    /// The next piece of the answer in hand.
    pub(crate) fn next_piece(&self) -> Result<Option<Vec<u8>>, Exception> {
        let Some(Pieces { from, first }) = self.pieces.take() else {
            return Ok(None);
        };
        let mut piece = first;
        // None is sent that is empty.
        while piece.as_ref().is_none_or(Vec::is_empty) {
            match self.pull(&from)? {
                Some((_, bytes)) => piece = Some(bytes),
                None => return Ok(None),
            }
        }
        self.pieces.replace(Some(Pieces { from, first: None }));
        Ok(piece)
    }

    /// The type and the bytes of the next item.
    fn pull(&self, from: &Thread) -> Result<Option<(&'static str, Vec<u8>)>, Exception> {
        let answer = self.go_on.call::<MultiValue>(from);
        embed::flush();
        let item = match outcome(answer.map_err(|error| internal(&error))?)? {
            Some(Value::Table(item)) => item.raw_get(1).map_err(|error| internal(&error))?,
            _ => return Ok(None),
        };
        if let Value::String(text) = &item {
            let kind = match text.to_str() {
                Ok(_) => "text/plain; charset=utf-8",
                Err(_) => "application/octet-stream",
            };
            return Ok(Some((kind, text.as_bytes().to_vec())));
        }
        match self.json.encode("the item", &item) {
            Ok(line) => Ok(Some(("application/x-ndjson", format!("{line}\n").into()))),
            Err(reason) => {
                // It hears that nobody asks for more; what it says to that is too late.
                let _ = self.stop.call::<MultiValue>(from);
                embed::flush();
                Err(refusal("NotJSON", reason))
            }
        }
    }

    fn call(&self, invocation: &Invocation) -> Result<MultiValue, Exception> {
        let argument = self
            .json
            .decode(&self.lua, invocation.data.get().as_bytes())
            .map_err(|error| refusal("error", format!("the argument: {error}")))?;
        // Nothing is lost by it: only in a table has `nil` no place.
        let argument = if argument.is_null() {
            Value::Nil
        } else {
            argument
        };
        let caller = invocation.caller.told();
        let caller = caller
            .map(|caller| self.json.decode(&self.lua, caller.as_bytes()))
            .transpose()
            .map_err(|error| refusal("error", format!("the context: {error}")))?;
        let deadline = invocation.deadline_unix_ms;
        self.call
            .call((argument, invocation.id.as_str(), deadline, caller))
            .map_err(|error| internal(&error))
    }
}

/// What the prelude asks of this side.
fn natives(lua: &Lua, json: &Json, archive: &Rc<RefCell<Option<Archive>>>) -> mlua::Result<Table> {
    let natives = lua.create_table()?;
    natives.set("null", Value::NULL)?;
    natives.set("list", json.list())?;
    // An error of Rust's would be no text to Lua: what went wrong comes back beside.
    let it = json.clone();
    natives.set(
        "encode",
        lua.create_function(move |_, value: Value| {
            Ok(match it.encode("the value", &value) {
                Ok(text) => (Some(text), None),
                Err(reason) => (None, Some(reason)),
            })
        })?,
    )?;
    let it = json.clone();
    natives.set(
        "decode",
        lua.create_function(move |lua, text: LuaString| {
            Ok(match it.decode(lua, &text.as_bytes()) {
                Ok(value) => (value, None),
                Err(error) => (Value::Nil, Some(error.to_string())),
            })
        })?,
    )?;
    let archive = Rc::clone(archive);
    natives.set(
        "find",
        lua.create_function(move |lua, module: LuaString| {
            let module = module.to_string_lossy();
            let archive = archive.borrow();
            let Some(archive) = archive.as_ref() else {
                return Ok((None, None));
            };
            let said = match files::find(archive, &module) {
                Some(Ok((file, text))) => return Ok((Some(file), Some(lua.create_string(text)?))),
                Some(Err(reason)) => reason,
                None => format!(
                    "no file '{}' in the archive",
                    files::candidates(&module).join("' or '")
                ),
            };
            Ok((None, Some(lua.create_string(format!("\n\t{said}"))?)))
        })?,
    )?;
    natives.set(
        "remaining",
        lua.create_function(|_, deadline: Option<u64>| Ok(deadline.map(remaining_ms)))?,
    )?;
    Ok(natives)
}

fn remaining_ms(deadline: u64) -> u64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis());
    deadline.saturating_sub(u64::try_from(now).unwrap_or(u64::MAX))
}

/// Where `require` looks for the image's modules.
fn search_path(root: Option<&OsString>) -> Vec<u8> {
    let directories = root
        .map(|root| root.as_encoded_bytes())
        .into_iter()
        .chain(MODULES.map(str::as_bytes));
    let mut path = Vec::new();
    for directory in directories {
        for end in ["/?.lua;", "/?/init.lua;"] {
            path.extend_from_slice(directory);
            path.extend_from_slice(end.as_bytes());
        }
    }
    path.pop();
    path
}

/// What the prelude answered: a value, or what a tenant did wrong.
fn outcome(answer: MultiValue) -> Result<Option<Value>, Exception> {
    let mut parts = answer.into_iter();
    if parts.next().is_some_and(|it| it.as_boolean() == Some(true)) {
        return Ok(parts.next());
    }
    let kind = text(parts.next());
    let message = text(parts.next());
    match parts.next() {
        Some(Value::Table(names)) => Err(no_entry(&message, &names)),
        stack => Err(Exception {
            error_type: kind,
            message,
            stack: text(stack),
        }),
    }
}

fn no_entry(missing: &str, names: &Table) -> Exception {
    let names: Vec<String> = names
        .sequence_values::<LuaString>()
        .map_while(Result::ok)
        .map(|name| name.to_string_lossy())
        .collect();
    let has = if names.is_empty() {
        "it has no functions but local ones".to_owned()
    } else {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        format!("it has {}", listing(&names))
    };
    refusal(
        "EntryNotFound",
        format!("the function has no '{missing}': {has}"),
    )
}

fn text(value: Option<Value>) -> String {
    match value {
        Some(Value::String(text)) => bounded(text.to_string_lossy()),
        _ => String::new(),
    }
}

/// The beginning and the end of what is too long.
fn bounded(text: String) -> String {
    let count = text.chars().count();
    if count <= MOST_CHARACTERS {
        return text;
    }
    let head: String = text.chars().take(MOST_CHARACTERS / 4).collect();
    let rest = MOST_CHARACTERS - MOST_CHARACTERS / 4;
    let tail: String = text.chars().skip(count - rest).collect();
    format!("{head}\n[...]\n{tail}")
}

pub(crate) fn refusal(kind: &str, message: impl Into<String>) -> Exception {
    Exception::refusal(kind, bounded(message.into()))
}

fn internal(error: &mlua::Error) -> Exception {
    refusal("error", error.to_string())
}
