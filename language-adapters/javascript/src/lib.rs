//! QuickJS, embedded: the [`Adapter`] for functions written in JavaScript.
//!
//! What needs JavaScript's own words is in `prelude/`. A function is loaded into a context
//! of its own, of which the template has one ready; there is one thread, and it drives the
//! event loop for as long as a call lasts.

mod clock;
mod embed;
mod failure;
mod files;
mod modules;
mod natives;
mod prelude;
mod random;
mod realm;
pub mod sabotage;
mod shared;
mod text;
mod timers;
mod urls;

use std::mem::ManuallyDrop;
use std::rc::Rc;

use refunction_adapter::given::is_imported;
use refunction_adapter::{Adapter, Answer, BootError, Exception, Invocation, Runtime, archive};
use refunction_protocol::Function;
use rquickjs::{Persistent, Runtime as Engine};
use serde_json::value::RawValue;

use crate::failure::refusal;
use crate::modules::Modules;
use crate::realm::Realm;
use crate::sabotage::leaves_out;
use crate::shared::{Shared, keep};

/// The variables that say where an image keeps its function's files.
const ROOT_VARIABLES: [&str; 2] = ["FUNCTION_ROOT", "LAMBDA_TASK_ROOT"];

/// What a function may hold in memory, after which it gets an exception: the container's
/// own limit would end it without a word.
const HEAP_BYTES: usize = 512 * 1024 * 1024;

/// How deep a function may call. The main thread has eight megabytes, and what the
/// adapter itself needs is little.
const STACK_BYTES: usize = 4 * 1024 * 1024;

/// Memory after which the collector runs. It writes to all objects, those of the template
/// too, and what is in no cycle is freed without it: so only for functions that take much.
const COLLECTION_BYTES: usize = 32 * 1024 * 1024;

/// QuickJS in this process.
#[derive(Default)]
pub struct JavaScript {
    booted: Option<Booted>,
}

struct Booted {
    shared: Rc<Shared>,
    // A process that ends needs no tidy heap, and QuickJS aborts over one that a tenant
    // left untidy.
    engine: ManuallyDrop<Engine>,
    libraries: Vec<String>,
    /// The context for the next function, made before it is asked for.
    next: Option<Realm>,
    /// The one with the function that the container's command names, and its handler.
    imported: Option<(String, Realm)>,
    /// The one with the function in it.
    loaded: Option<Realm>,
}

impl JavaScript {
    /// A runtime that is yet to be booted.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn booted(&mut self, doing: &str) -> Result<&mut Booted, BootError> {
        self.booted
            .as_mut()
            .ok_or_else(|| failed(doing, "JavaScript was not booted"))
    }
}

impl Booted {
    fn boot() -> Result<Self, BootError> {
        const DOING: &str = "starting JavaScript";
        let root = ROOT_VARIABLES
            .iter()
            .find_map(|name| std::env::var_os(name).filter(|value| !value.is_empty()))
            .map(|root| std::path::absolute(&root).unwrap_or_else(|_| root.into()));
        let shared = Shared::new(root).map_err(|error| failed(DOING, error))?;
        let shared = Rc::new(shared);
        let engine = Engine::new().map_err(|error| failed(DOING, error))?;
        engine.set_memory_limit(HEAP_BYTES);
        engine.set_max_stack_size(STACK_BYTES);
        engine.set_loader(Modules(Rc::clone(&shared)), Modules(Rc::clone(&shared)));
        track_rejections(&engine, &shared);
        let next = Realm::new(&engine, &shared).map_err(|error| failed(DOING, error.message))?;
        Ok(Self {
            shared,
            engine: ManuallyDrop::new(engine),
            libraries: Vec::new(),
            next: Some(next),
            imported: None,
            loaded: None,
        })
    }

    /// A context in which no function ran, with the libraries in it.
    fn fresh(&mut self) -> Result<Realm, Exception> {
        if let Some(realm) = self.next.take() {
            return Ok(realm);
        }
        if leaves_out("javascript:context")
            && let Some(realm) = self.loaded.take()
        {
            return Ok(realm);
        }
        // The one before must let go of what the two share before there is another.
        self.loaded = None;
        self.imported = None;
        self.engine.run_gc();
        let realm = Realm::new(&self.engine, &self.shared)?;
        for library in &self.libraries {
            realm.import(library)?;
        }
        Ok(realm)
    }
}

impl JavaScript {
    fn loaded(&mut self) -> Result<&mut Realm, Exception> {
        let booted = self.booted.as_mut().ok_or_else(not_booted)?;
        let loaded = booted.loaded.as_mut();
        loaded.ok_or_else(|| refusal("NotLoaded", "no function is loaded"))
    }
}

impl Adapter for JavaScript {
    fn runtime(&self) -> Runtime {
        Runtime {
            name: "javascript".into(),
            version: self
                .booted
                .as_ref()
                .map(|_| embed::version())
                .unwrap_or_default(),
        }
    }

    fn boot(&mut self) -> Result<(), BootError> {
        if self.booted.is_none() {
            self.booted = Some(Booted::boot()?);
        }
        Ok(())
    }

    fn preload(&mut self, libraries: &[String]) -> Result<(), BootError> {
        let booted = self.booted("preloading")?;
        let realm = booted
            .fresh()
            .map_err(|error| failed("preloading", error.message))?;
        for library in libraries {
            realm.import(library).map_err(|error| {
                failed(
                    &format!("importing {library}"),
                    format!("{}: {}", error.error_type, error.message),
                )
            })?;
            booted.libraries.push(library.clone());
        }
        booted.next = Some(realm);
        Ok(())
    }

    fn import(&mut self, handler: &str) -> Result<(), Exception> {
        let Some(booted) = &mut self.booted else {
            return Err(not_booted());
        };
        let mut realm = booted.fresh()?;
        realm.load(&Function {
            handler: Some(handler.to_owned()),
            ..Function::default()
        })?;
        booted.imported = Some((handler.to_owned(), realm));
        Ok(())
    }

    fn settle(&mut self) -> Result<(), BootError> {
        let booted = self.booted("settling JavaScript")?;
        booted.engine.run_gc();
        booted.engine.set_gc_threshold(COLLECTION_BYTES);
        Ok(())
    }

    fn after_fork(&mut self) {
        // Nothing of QuickJS's knows which process it is in.
    }

    fn after_restore(&mut self) -> Result<(), BootError> {
        const DOING: &str = "reseeding JavaScript";
        let booted = self.booted(DOING)?;
        if !leaves_out("javascript:clock") {
            booted.shared.clock.reset();
        }
        if leaves_out("javascript:reseeding") {
            return Ok(());
        }
        booted
            .shared
            .random
            .reseed()
            .map_err(|error| failed(DOING, error))
    }

    fn load(&mut self, function: &Function) -> Result<(), Exception> {
        let Some(booted) = &mut self.booted else {
            return Err(not_booted());
        };
        if let Some((_, mut realm)) = booted
            .imported
            .take_if(|(handler, _)| is_imported(function, handler))
        {
            realm.set_environment(&function.env)?;
            booted.loaded = Some(realm);
            return Ok(());
        }
        let mut realm = booted.fresh()?;
        let outcome = realm.load(function);
        // One that failed may have left anything: the next function gets another.
        booted.loaded = outcome.is_ok().then_some(realm);
        outcome
    }

    fn invoke(&mut self, invocation: &Invocation) -> Result<Box<RawValue>, Exception> {
        match self.answer(invocation)? {
            Answer::Whole(value) => Ok(value),
            Answer::Streamed(_) => Err(refusal("TypeError", "the result comes in pieces")),
        }
    }

    fn answer(&mut self, invocation: &Invocation) -> Result<Answer, Exception> {
        self.loaded()?.answer(invocation)
    }

    fn next_piece(&mut self) -> Result<Option<Vec<u8>>, Exception> {
        self.loaded()?.next_piece()
    }
}

/// Notes down promises that are rejected while nobody has asked for their outcome.
fn track_rejections(engine: &Engine, shared: &Rc<Shared>) {
    let shared = Rc::clone(shared);
    engine.set_host_promise_rejection_tracker(Some(Box::new(
        move |ctx, promise, reason, is_handled| {
            let mut rejections = shared.rejections.borrow_mut();
            let promise = Persistent::save(&ctx, promise);
            if is_handled {
                rejections.retain(|(known, _)| *known != promise);
            } else if let Ok(reason) = keep(&ctx, reason) {
                rejections.push((promise, reason));
            }
        },
    )));
}

fn not_booted() -> Exception {
    refusal("InternalError", "JavaScript was not booted")
}

fn failed(doing: &str, cause: impl ToString) -> BootError {
    BootError {
        doing: doing.into(),
        cause: cause.to_string(),
    }
}
