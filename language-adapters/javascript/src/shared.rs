//! What the Rust side of a runtime keeps: natives, loader and event loop hold it together.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::PathBuf;

use rquickjs::{Ctx, Function, IntoJs, Object, Persistent, Value, function::IntoArgs};

use crate::clock::Clock;
use crate::files::Files;
use crate::random::Generator;
use crate::sabotage::leaves_out;
use crate::timers::Timers;

/// A value that outlives one stay in the context.
pub(crate) type Kept = Persistent<Value<'static>>;

pub(crate) struct Shared {
    pub(crate) clock: Clock,
    pub(crate) random: Generator,
    pub(crate) timers: RefCell<Timers>,
    pub(crate) files: RefCell<Files>,
    /// Promises that were rejected while nobody had asked for their outcome, and why.
    pub(crate) rejections: RefCell<Vec<(Kept, Kept)>>,
    /// Names of modules that were compiled as the body of a function.
    pub(crate) wrapped: RefCell<BTreeSet<String>>,
    /// What the prelude gives to this side.
    tools: RefCell<Option<Persistent<Object<'static>>>>,
}

impl Shared {
    pub(crate) fn new(root: Option<PathBuf>) -> Result<Self, getrandom::Error> {
        Ok(Self {
            clock: Clock::new(),
            random: Generator::new()?,
            timers: RefCell::default(),
            files: RefCell::new(Files::new(root)),
            rejections: RefCell::default(),
            wrapped: RefCell::default(),
            tools: RefCell::default(),
        })
    }

    pub(crate) fn set_tools<'js>(&self, ctx: &Ctx<'js>, tools: Object<'js>) {
        self.tools.replace(Some(Persistent::save(ctx, tools)));
    }

    /// A function or value of the prelude's.
    pub(crate) fn tool<'js>(&self, ctx: &Ctx<'js>, name: &str) -> rquickjs::Result<Value<'js>> {
        let tools = self.tools.borrow().clone();
        tools
            .ok_or(rquickjs::Error::Unknown)?
            .restore(ctx)?
            .get(name)
    }

    /// Calls a function of the prelude's.
    pub(crate) fn call<'js, R: rquickjs::FromJs<'js>>(
        &self,
        ctx: &Ctx<'js>,
        name: &str,
        arguments: impl IntoArgs<'js>,
    ) -> rquickjs::Result<R> {
        self.tool(ctx, name)?.get::<Function<'_>>()?.call(arguments)
    }

    /// Lets go of everything that belongs to a context.
    pub(crate) fn forget(&self) {
        if !leaves_out("javascript:timers") {
            self.timers.borrow_mut().clear();
        }
        self.rejections.borrow_mut().clear();
        self.wrapped.borrow_mut().clear();
        self.tools.replace(None);
    }
}

/// Keeps a value past the stay in its context.
pub(crate) fn keep<'js>(ctx: &Ctx<'js>, value: impl IntoJs<'js>) -> rquickjs::Result<Kept> {
    Ok(Persistent::save(ctx, value.into_js(ctx)?))
}
