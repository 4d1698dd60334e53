//! One context with one function in it, and the event loop that drives it.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::rc::Rc;

use refunction_adapter::given::{listing, split_handler};
use refunction_adapter::{Answer, Exception, Head, Invocation};
use refunction_protocol::Function as Tenant;
use rquickjs::context::intrinsic;
use rquickjs::{Context, Ctx, Function, Module, Object, Persistent, Runtime, TypedArray, Value};
use serde_json::value::RawValue;

use crate::archive::Archive;
use crate::embed;
use crate::failure::{of_error, of_value, refusal};
use crate::files::{Asker, Own};
use crate::modules::{self, Compiled, compile};
use crate::prelude;
use crate::sabotage::leaves_out;
use crate::shared::{Kept, Shared, keep};
use crate::timers::Next;

/// The module that source text becomes, and how it would be called in a file.
const SOURCE_MODULE: &str = "function";

/// The states of a token of the prelude's.
const PENDING: u8 = 0;
const FULFILLED: u8 = 1;

pub(crate) struct Realm {
    entry: Option<Entry>,
    /// What is still to come of an answer in pieces.
    pieces: Option<Pieces>,
    /// The container's time zone, if the function has another.
    time_zone: Option<TimeZone>,
    /// What the variables of the last call were before it.
    before_call: Vec<(String, Option<String>)>,
    shared: Rc<Shared>,
    runtime: Runtime,
    // Last: all that is kept of it must go before it does.
    context: Context,
}

struct Entry {
    function: Persistent<Function<'static>>,
    is_handler: bool,
}

/// What gives the pieces of an answer, and the first of them.
struct Pieces {
    from: Kept,
    first: Option<Vec<u8>>,
}

/// The value of `TZ`.
struct TimeZone(Option<OsString>);

impl Drop for Realm {
    fn drop(&mut self) {
        if let Some(TimeZone(zone)) = self.time_zone.take()
            && !leaves_out("javascript:time-zone-put-back")
        {
            embed::set_time_zone(zone.as_deref());
        }
        self.shared.forget();
    }
}

impl Realm {
    /// A context in which no function was loaded yet.
    pub(crate) fn new(runtime: &Runtime, shared: &Rc<Shared>) -> Result<Self, Exception> {
        // Not `full`: only the first of several contexts would have a `DOMException`.
        let context = Context::custom::<intrinsic::All>(runtime)
            .map_err(|error| refusal("InternalError", error.to_string()))?;
        context.with(|ctx| {
            prelude::install(shared, &ctx).map_err(|error| of_error(shared, &ctx, &error))
        })?;
        Ok(Self {
            entry: None,
            pieces: None,
            time_zone: None,
            before_call: Vec::new(),
            shared: Rc::clone(shared),
            runtime: runtime.clone(),
            context,
        })
    }

    /// Runs a module of the image's for what it leaves behind.
    pub(crate) fn import(&self, library: &str) -> Result<(), Exception> {
        let base = match self.shared.files.borrow().path("").to_str() {
            Some(root) => format!("{}/", root.trim_end_matches('/')),
            None => return Err(refusal("Error", "the function root is not UTF-8")),
        };
        let token = self.with(|ctx| {
            let name = modules::resolve(&self.shared, ctx, &base, library, Asker::Import)?;
            self.begin_import(ctx, &name)
        })?;
        self.run(&token).map(drop)
    }

    /// Loads a tenant's function.
    pub(crate) fn load(&mut self, function: &Tenant) -> Result<(), Exception> {
        self.set_environment(&function.env)?;
        let place = self.place(function)?;
        let found = self.evaluate(&place)?;
        self.entry = Some(self.find_entry(&place, found)?);
        Ok(())
    }

    /// Gives it these variables.
    pub(crate) fn set_environment(
        &mut self,
        variables: &BTreeMap<String, String>,
    ) -> Result<(), Exception> {
        for (name, value) in variables {
            if name.is_empty() || name.contains(['=', '\0']) {
                let message = format!("{name:?} cannot be the name of an environment variable");
                return Err(refusal("TypeError", message));
            }
            if value.contains('\0') {
                let message = format!("the environment variable {name} holds a NUL");
                return Err(refusal("TypeError", message));
            }
        }
        if let Some(zone) = variables.get("TZ")
            && !leaves_out("javascript:time-zone")
        {
            self.time_zone
                .get_or_insert_with(|| TimeZone(std::env::var_os("TZ")));
            embed::set_time_zone(Some(OsStr::new(zone)));
        }
        if leaves_out("javascript:environment") {
            return Ok(());
        }
        self.with(|ctx| {
            let environment: Object<'_> = self.shared.tool(ctx, "environment")?.get()?;
            variables
                .iter()
                .try_for_each(|(name, value)| environment.set(name.as_str(), value.as_str()))
        })
    }

    /// Takes back the variables of the call before, and gives it these: where nothing is put
    /// back between two calls, that one's trace would be taken for the next one's.
    fn set_environment_of_call(
        &mut self,
        variables: &BTreeMap<String, String>,
    ) -> Result<(), Exception> {
        let before = std::mem::take(&mut self.before_call);
        if before.is_empty() && variables.is_empty() {
            return Ok(());
        }
        if leaves_out("javascript:environment-of-a-call") {
            return self.set_environment(variables);
        }
        self.before_call = self.with(|ctx| {
            let environment: Object<'_> = self.shared.tool(ctx, "environment")?.get()?;
            for (name, value) in before {
                match value {
                    Some(value) => environment.set(name, value)?,
                    None => environment.remove(name)?,
                }
            }
            let names = variables.keys();
            names
                .map(|name| {
                    // The function may have put anything there.
                    let value: Value<'_> = environment.get(name.as_str())?;
                    let text = value.as_string().and_then(|text| text.to_string().ok());
                    Ok((name.clone(), text))
                })
                .collect()
        })?;
        self.set_environment(variables)
    }

    /// Where the entry is: the file, and the function in it.
    fn place(&self, function: &Tenant) -> Result<Place, Exception> {
        let not_found = |message: String| refusal("EntryNotFound", message);
        let handler = function.handler.as_deref();
        let main = function.main.as_deref();
        if function.binary {
            let archive =
                Archive::open(&function.code).map_err(|reason| refusal("BadArchive", reason))?;
            self.shared.files.borrow_mut().set(Own::Archive(archive));
            let files = self.shared.files.borrow();
            if let Some(named) = handler.or(main.filter(|main| main.contains('.'))) {
                let (module, attribute) = split_handler(named)?;
                return Ok(Place {
                    file: files
                        .resolve_entry(module)
                        .ok_or_else(|| no_module(&files.own_names(), module))?,
                    attribute: Some(attribute.to_owned()),
                    is_handler: handler.is_some(),
                });
            }
            return Ok(Place {
                file: files.main().ok_or_else(|| {
                    not_found(format!(
                        "the archive has neither a package.json that names its main module nor an index.js, and no handler names another; it holds {}",
                        listing(&files.own_names())
                    ))
                })?,
                attribute: main.map(str::to_owned),
                is_handler: false,
            });
        }
        if function.code.trim().is_empty() {
            let Some(handler) = handler else {
                return Err(not_found("there is no code to load".into()));
            };
            let (module, attribute) = split_handler(handler)?;
            let files = self.shared.files.borrow();
            return Ok(Place {
                file: files
                    .resolve_entry(module)
                    .ok_or_else(|| no_module(&[], module))?,
                attribute: Some(attribute.to_owned()),
                is_handler: true,
            });
        }
        let (module, attribute) = match handler {
            Some(handler) => {
                let (module, attribute) = split_handler(handler)?;
                (module, Some(attribute))
            }
            None => (SOURCE_MODULE, main),
        };
        let file = format!("{}.js", module.trim_matches('/'));
        self.shared.files.borrow_mut().set(Own::Source {
            name: file.clone(),
            text: function.code.clone(),
        });
        Ok(Place {
            file,
            attribute: attribute.map(str::to_owned),
            is_handler: handler.is_some(),
        })
    }

    /// Runs the entry's module to its end; what it exports, and for a script what the
    /// names that an entry may have stand for in it.
    fn evaluate(&self, place: &Place) -> Result<Kept, Exception> {
        let token = self.with(|ctx| {
            let file = place.file.as_str();
            match compile(&self.shared, ctx, file, &place.candidates())? {
                Compiled::Script(body) => self.shared.call(ctx, "evaluateEntry", (file, body)),
                Compiled::Module(_) => self.begin_import(ctx, file),
                Compiled::Json(_) => Err(rquickjs::Exception::throw_type(
                    ctx,
                    &format!("{file} is data and no module"),
                )),
            }
        })?;
        self.run(&token)
    }

    fn begin_import(&self, ctx: &Ctx<'_>, name: &str) -> rquickjs::Result<Token> {
        let promise = Module::import(ctx, name)?;
        self.shared.call(ctx, "importEntry", (promise,))
    }

    fn find_entry(&self, place: &Place, found: Kept) -> Result<Entry, Exception> {
        let entry = self.with(|ctx| {
            let found: Object<'_> = found.restore(ctx)?.get()?;
            for (attribute, is_handler) in place.attributes() {
                if let Some(value) = attribute_of(&found, attribute)? {
                    let function = value.as_function().cloned();
                    return Ok(Ok(function
                        .map(|it| (Persistent::save(ctx, it), is_handler))
                        .ok_or_else(|| not_callable(attribute, &value))));
                }
            }
            if place.attribute.is_none()
                && let Some(function) = default_of(&found)?
            {
                return Ok(Ok(Ok((Persistent::save(ctx, function), false))));
            }
            self.functions_of(&found, &place.file).map(Err)
        })?;
        match entry {
            Ok(found) => found.map(|(function, is_handler)| Entry {
                function,
                is_handler,
            }),
            Err(has) => {
                let missing = place.attribute.as_deref().unwrap_or("main");
                let has: Vec<&str> = has.iter().map(String::as_str).collect();
                let text = self.shared.files.borrow().read(&place.file);
                let declared =
                    modules::declared_names(&text.and_then(Result::ok).unwrap_or_default());
                let has = if !has.contains(&missing) && declared.iter().any(|it| it == missing) {
                    "it is there, but a module must export it".to_owned()
                } else if has.is_empty() {
                    "it has no functions".to_owned()
                } else {
                    format!("it has {}", listing(&has))
                };
                Err(refusal(
                    "EntryNotFound",
                    format!("the function has no '{missing}': {has}"),
                ))
            }
        }
    }

    /// Names of functions that could have been meant.
    fn functions_of(&self, found: &Object<'_>, file: &str) -> rquickjs::Result<Vec<String>> {
        let mut names = Vec::new();
        let exports: Value<'_> = found.get("exports")?;
        if let Some(exports) = exports.as_object() {
            for key in exports.keys::<String>() {
                let key = key?;
                if exports.get::<_, Value<'_>>(key.as_str())?.is_function() {
                    names.push(key);
                }
            }
        }
        if !found.get::<_, Value<'_>>("locals")?.is_undefined() {
            let text = self.shared.files.borrow().read(file);
            let text = text.and_then(Result::ok).unwrap_or_default();
            names.extend(modules::declared_names(&text));
        }
        Ok(names)
    }

    /// Calls the function.
    pub(crate) fn answer(&mut self, invocation: &Invocation) -> Result<Answer, Exception> {
        if !leaves_out("javascript:pieces-of-a-call") {
            self.pieces = None;
        }
        self.set_environment_of_call(&invocation.env)?;
        let Some(entry) = &self.entry else {
            return Err(refusal("NotLoaded", "no function is loaded"));
        };
        // What a call that ended early left is not this one's.
        if !leaves_out("javascript:rejections-of-a-call") {
            self.shared.rejections.borrow_mut().clear();
        }
        let token = self.with(|ctx| {
            let function = entry.function.clone().restore(ctx)?;
            let argument = ctx.json_parse(invocation.data.get())?;
            let deadline = match invocation.deadline_unix_ms {
                Some(deadline) => Value::new_number(ctx.clone(), deadline as f64),
                None => Value::new_undefined(ctx.clone()),
            };
            let caller = match invocation.caller.told() {
                Some(caller) => ctx.json_parse(caller)?,
                None => Value::new_undefined(ctx.clone()),
            };
            let id = invocation.id.as_str();
            self.shared.call(
                ctx,
                "begin",
                (function, entry.is_handler, argument, id, deadline, caller),
            )
        })?;
        let result = self.run(&token)?;
        let from = self.with(|ctx| {
            let result = result.clone().restore(ctx)?;
            let from: Value<'_> = self.shared.call(ctx, "piecesOf", (result,))?;
            (!from.is_undefined()).then(|| keep(ctx, from)).transpose()
        })?;
        if let Some(from) = from {
            return self.begin(from).map(Answer::Streamed);
        }
        let text: String =
            self.with(|ctx| self.shared.call(ctx, "encode", (result.restore(ctx)?,)))?;
        RawValue::from_string(text)
            .map(Answer::Whole)
            .map_err(|error| refusal("TypeError", format!("the result is not JSON: {error}")))
    }

    /// Asks for the first piece, which says what the answer is.
    fn begin(&mut self, from: Kept) -> Result<Head, Exception> {
        let first = self.pull(&from)?;
        let head = match &first {
            Some((kind, _)) => Head::of_type(kind),
            None => Head {
                status: 200,
                headers: Vec::new(),
            },
        };
        let first = first.map(|(_, bytes)| bytes);
        self.pieces = first.is_some().then_some(Pieces { from, first });
        Ok(head)
    }

    /// The next piece of the answer in hand.
    pub(crate) fn next_piece(&mut self) -> Result<Option<Vec<u8>>, Exception> {
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
        self.pieces = Some(Pieces { from, first: None });
        Ok(piece)
    }

    /// The type and the bytes of the next item.
    fn pull(&self, from: &Kept) -> Result<Option<(String, Vec<u8>)>, Exception> {
        let step = |name: &str| {
            let token = self.with(|ctx| {
                let from = from.clone().restore(ctx)?;
                self.shared.call(ctx, name, (from,))
            })?;
            self.run(&token)
        };
        let pulled = step("nextStep").and_then(|step| {
            self.with(|ctx| {
                let piece: Option<Object<'_>> =
                    self.shared.call(ctx, "pieceOf", (step.restore(ctx)?,))?;
                let Some(piece) = piece else { return Ok(None) };
                let bytes: TypedArray<'_, u8> = piece.get("bytes")?;
                Ok(Some((piece.get("kind")?, embed::bytes(&bytes))))
            })
        });
        if pulled.is_err() {
            // The function hears that nobody asks for more; what it says to that is too late.
            let _ = step("lastStep");
        }
        pulled
    }

    /// Drives the event loop until there is an outcome.
    fn run(&self, token: &Token) -> Result<Kept, Exception> {
        loop {
            self.run_jobs()?;
            self.refuse_rejections()?;
            if let Some(outcome) = self.outcome(token)? {
                return Ok(outcome);
            }
            let now = self.shared.clock.now_ms();
            let next = self.shared.timers.borrow_mut().next(now);
            match next {
                Next::Fire(id) => {
                    let fired = self.with(|ctx| self.shared.call::<()>(ctx, "fire", (id as f64,)));
                    // What it put off before it threw is still this call's.
                    self.run_jobs().and(fired)?;
                }
                Next::Wait(time) => std::thread::sleep(time),
                Next::Nothing => {
                    return Err(refusal(
                        "NeverSettled",
                        "the function's promise is still pending, and nothing is left that could settle it: no timer, no callback",
                    ));
                }
            }
        }
    }

    /// Runs what promises and `queueMicrotask` put off, to the last; what the first of
    /// it threw that nobody caught.
    fn run_jobs(&self) -> Result<(), Exception> {
        let mut first = Ok(());
        while self.runtime.is_job_pending() {
            if let Err(thrown) = self.runtime.execute_pending_job() {
                let thrown = thrown.0.with(|ctx| of_value(&self.shared, &ctx.catch()));
                first = first.and(Err(thrown));
            }
        }
        first
    }

    fn refuse_rejections(&self) -> Result<(), Exception> {
        let rejections = std::mem::take(&mut *self.shared.rejections.borrow_mut());
        match rejections.into_iter().next() {
            None => Ok(()),
            Some((_, reason)) => {
                Err(self.with(|ctx| Ok(of_value(&self.shared, &reason.restore(ctx)?)))?)
            }
        }
    }

    fn outcome(&self, token: &Token) -> Result<Option<Kept>, Exception> {
        self.with(|ctx| {
            let token = token.clone().restore(ctx)?;
            let value: Value<'_> = token.get("value")?;
            match token.get("state")? {
                PENDING => Ok(None),
                FULFILLED => keep(ctx, value).map(Some),
                _ => Err(ctx.throw(value)),
            }
        })
    }

    /// Does something in the context; what it throws, told.
    fn with<T>(&self, work: impl FnOnce(&Ctx<'_>) -> rquickjs::Result<T>) -> Result<T, Exception> {
        self.context
            .with(|ctx| work(&ctx).map_err(|error| of_error(&self.shared, &ctx, &error)))
    }
}

/// What the prelude notes down of work in progress.
type Token = Persistent<Object<'static>>;

/// Where an entry is.
struct Place {
    file: String,
    /// Its name, if somebody said so.
    attribute: Option<String>,
    is_handler: bool,
}

impl Place {
    /// The names that it may have, and whether it is called as a handler then.
    fn attributes(&self) -> Vec<(&str, bool)> {
        match &self.attribute {
            Some(attribute) => vec![(attribute, self.is_handler)],
            None => vec![("main", false), ("handler", true)],
        }
    }

    fn candidates(&self) -> Vec<&str> {
        self.attributes()
            .into_iter()
            .map(|(name, _)| name)
            .collect()
    }
}

/// What a module gives under a name: an export, a part of its default export, or what
/// that name stands for in a script.
fn attribute_of<'js>(found: &Object<'js>, attribute: &str) -> rquickjs::Result<Option<Value<'js>>> {
    let exports: Value<'js> = found.get("exports")?;
    let locals: Value<'js> = found.get("locals")?;
    let default = match exports.as_object() {
        Some(exports) => exports.get("default")?,
        None => Value::new_undefined(found.ctx().clone()),
    };
    for space in [exports, default, locals] {
        let Some(space) = space.as_object() else {
            continue;
        };
        let value: Value<'js> = space.get(attribute)?;
        if !value.is_undefined() {
            return Ok(Some(value));
        }
    }
    Ok(None)
}

/// The one function that a module is.
fn default_of<'js>(found: &Object<'js>) -> rquickjs::Result<Option<Function<'js>>> {
    let exports: Value<'js> = found.get("exports")?;
    if let Some(function) = exports.as_function() {
        return Ok(Some(function.clone()));
    }
    let Some(exports) = exports.as_object() else {
        return Ok(None);
    };
    let default: Value<'js> = exports.get("default")?;
    Ok(default.as_function().cloned())
}

fn not_callable(attribute: &str, value: &Value<'_>) -> Exception {
    refusal(
        "TypeError",
        format!(
            "the entry '{attribute}' is not callable: it is of type {}",
            value.type_name()
        ),
    )
}

fn no_module(names: &[&str], module: &str) -> Exception {
    let beside = if names.is_empty() {
        String::new()
    } else {
        format!(": the archive holds {}", listing(names))
    };
    refusal(
        "ModuleNotFound",
        format!("there is no module '{module}'{beside}"),
    )
}
