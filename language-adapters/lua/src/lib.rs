//! Lua, embedded: the [`Adapter`] for functions written in it.
//!
//! A function is loaded into a Lua state of its own, of which the template has one ready.

mod embed;
mod environment;
mod files;
mod json;
pub mod sabotage;
mod state;

use std::ffi::OsString;
use std::path::Path;

use refunction_adapter::archive::Archive;
use refunction_adapter::given::{check_environment, is_imported, listing, split_handler};
use refunction_adapter::{Adapter, Answer, BootError, Exception, Invocation, Runtime};
use refunction_protocol::Function;
use serde_json::value::RawValue;

use crate::environment::Environment;
use crate::sabotage::leaves_out;
use crate::state::{Place, State, refusal};

/// The variables that say where an image keeps its function's files.
const ROOT_VARIABLES: [&str; 2] = ["FUNCTION_ROOT", "LAMBDA_TASK_ROOT"];

/// The module that source text becomes.
const SOURCE_MODULE: &str = "function";

/// Lua in this process.
#[derive(Default)]
pub struct Lua {
    booted: Option<Booted>,
}

struct Booted {
    root: Option<OsString>,
    version: String,
    libraries: Vec<String>,
    environment: Environment,
    /// The state for the next function, made before it is asked for.
    next: Option<State>,
    /// The one with the function that the container's command names, and its handler.
    imported: Option<(String, State)>,
    /// The one with the function in it.
    loaded: Option<State>,
}

impl Lua {
    /// A runtime that is yet to be booted.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn booted(&mut self, doing: &str) -> Result<&mut Booted, BootError> {
        self.booted
            .as_mut()
            .ok_or_else(|| failed(doing, "Lua was not booted"))
    }
}

impl Booted {
    fn boot() -> Result<Self, BootError> {
        let root = ROOT_VARIABLES
            .iter()
            .find_map(|name| std::env::var_os(name).filter(|value| !value.is_empty()));
        let next = State::new(root.as_ref()).map_err(|error| failed("starting Lua", error))?;
        Ok(Self {
            root,
            version: next.version(),
            libraries: Vec::new(),
            environment: Environment::default(),
            next: Some(next),
            imported: None,
            loaded: None,
        })
    }

    /// The states that wait for a load.
    fn ready(&self) -> Vec<&State> {
        let imported = self.imported.as_ref().map(|(_, state)| state);
        self.next.iter().chain(imported).collect()
    }

    /// A state in which no function ran, with the libraries in it.
    fn fresh(&mut self) -> Result<State, Exception> {
        if let Some(state) = self.next.take() {
            return Ok(state);
        }
        if leaves_out("lua:state")
            && let Some(state) = self.loaded.take()
        {
            return Ok(state);
        }
        // Its finalizers run now, before anything of the next function's is there.
        self.loaded = None;
        let state = State::new(self.root.as_ref()).map_err(|error| refusal("error", error))?;
        for library in &self.libraries {
            state.preload(library)?;
        }
        Ok(state)
    }

    fn load(&mut self, function: &Function) -> Result<State, Exception> {
        check_environment(&function.env)?;
        if let Some((_, state)) = self
            .imported
            .take_if(|(handler, _)| is_imported(function, handler))
        {
            self.environment.set(&function.env);
            return Ok(state);
        }
        let state = self.fresh()?;
        self.environment.set(&function.env);
        let (place, archive) = self.place(function)?;
        state.load(place, archive)?;
        Ok(state)
    }

    /// The text to run, and the archive that it came in.
    fn place<'a>(&self, function: &'a Function) -> Result<(Place<'a>, Option<Archive>), Exception> {
        let handler = function.handler.as_deref();
        let main = function.main.as_deref();
        let place = |text, file, attribute| Place {
            text,
            file,
            attribute,
            is_handler: handler.is_some(),
        };
        if function.binary {
            let archive =
                Archive::open(&function.code).map_err(|reason| refusal("BadArchive", reason))?;
            let named = handler.or(main.filter(|main| main.contains('.')));
            let (module, attribute) = match named {
                Some(named) => {
                    let (module, attribute) = split_handler(named)?;
                    (module, Some(attribute))
                }
                None => (files::MAIN_MODULE, main),
            };
            let (file, text) = files::find(&archive, module)
                .ok_or_else(|| no_module(module, &archive))?
                .map_err(|reason| refusal("BadArchive", reason))?;
            return Ok((place(text, file, attribute), Some(archive)));
        }
        let (module, attribute) = match handler {
            Some(handler) => {
                let (module, attribute) = split_handler(handler)?;
                (module, Some(attribute))
            }
            None => (SOURCE_MODULE, main),
        };
        if !function.code.trim().is_empty() {
            let text = function.code.clone().into_bytes();
            return Ok((place(text, format!("{module}.lua"), attribute), None));
        }
        if handler.is_none() {
            return Err(refusal("EntryNotFound", "there is no code to load"));
        }
        let (file, text) = self.of_the_image(module)?;
        Ok((place(text, file, attribute), None))
    }

    /// A module of the function root.
    fn of_the_image(&self, module: &str) -> Result<(String, Vec<u8>), Exception> {
        let root = self.root.as_deref().unwrap_or_default();
        for file in files::candidates(module) {
            match std::fs::read(Path::new(root).join(&file)) {
                Ok(text) => return Ok((file, text)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => {
                    let message = format!("reading {file}: {error}");
                    return Err(refusal("ModuleNotFound", message));
                }
            }
        }
        let message = format!("there is no module '{module}' in the image");
        Err(refusal("ModuleNotFound", message))
    }
}

impl Adapter for Lua {
    fn runtime(&self) -> Runtime {
        Runtime {
            name: "lua".into(),
            version: self
                .booted
                .as_ref()
                .map(|booted| booted.version.clone())
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
        let state = booted
            .fresh()
            .map_err(|error| failed("preloading", error.message))?;
        for library in libraries {
            state
                .preload(library)
                .map_err(|error| failed(&format!("importing {library}"), error.message))?;
            booted.libraries.push(library.clone());
        }
        booted.next = Some(state);
        Ok(())
    }

    fn import(&mut self, handler: &str) -> Result<(), Exception> {
        let Some(booted) = &mut self.booted else {
            return Err(not_booted());
        };
        let function = Function {
            handler: Some(handler.to_owned()),
            ..Function::default()
        };
        let state = booted.load(&function)?;
        booted.imported = Some((handler.to_owned(), state));
        Ok(())
    }

    fn settle(&mut self) -> Result<(), BootError> {
        const DOING: &str = "settling Lua";
        let ready = self.booted(DOING)?.ready();
        ready
            .into_iter()
            .try_for_each(State::collect)
            .map_err(|error| failed(DOING, error))
    }

    fn after_fork(&mut self) {
        // Nothing of Lua's knows which process it is in.
    }

    fn after_restore(&mut self) -> Result<(), BootError> {
        const DOING: &str = "reseeding Lua";
        if leaves_out("lua:reseeding") {
            return Ok(());
        }
        // One that is yet to be made is seeded then.
        let ready = self.booted(DOING)?.ready();
        ready
            .into_iter()
            .try_for_each(State::reseed)
            .map_err(|error| failed(DOING, error))
    }

    fn load(&mut self, function: &Function) -> Result<(), Exception> {
        let Some(booted) = &mut self.booted else {
            return Err(not_booted());
        };
        // One that failed may have left anything: the next function gets another.
        let outcome = booted.load(function);
        booted.loaded = None;
        booted.loaded = Some(outcome?);
        Ok(())
    }

    fn invoke(&mut self, invocation: &Invocation) -> Result<Box<RawValue>, Exception> {
        match self.answer(invocation)? {
            Answer::Whole(value) => Ok(value),
            Answer::Streamed(_) => Err(refusal("error", "the result comes in pieces")),
        }
    }

    fn next_piece(&mut self) -> Result<Option<Vec<u8>>, Exception> {
        let loaded = self.booted.as_ref().and_then(|it| it.loaded.as_ref());
        loaded.map_or(Ok(None), State::next_piece)
    }

    fn answer(&mut self, invocation: &Invocation) -> Result<Answer, Exception> {
        let Some(booted) = &mut self.booted else {
            return Err(not_booted());
        };
        check_environment(&invocation.env)?;
        booted.environment.set_for_call(&invocation.env);
        match &booted.loaded {
            Some(state) => state.answer(invocation),
            None => Err(refusal("NotLoaded", "no function is loaded")),
        }
    }
}

fn no_module(module: &str, archive: &Archive) -> Exception {
    let names: Vec<&str> = archive.names().collect();
    refusal(
        "ModuleNotFound",
        format!(
            "the archive has no {}: it holds {}",
            files::candidates(module).join(" or "),
            listing(&names)
        ),
    )
}

fn not_booted() -> Exception {
    refusal("InternalError", "Lua was not booted")
}

fn failed(doing: &str, cause: impl ToString) -> BootError {
    BootError {
        doing: doing.into(),
        cause: cause.to_string(),
    }
}
