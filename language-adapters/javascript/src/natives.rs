//! What the prelude cannot do in JavaScript. No function of a tenant's gets hold of these.

use std::io::Write;
use std::rc::Rc;

use rquickjs::function::Opt;
use rquickjs::promise::PromiseState;
use rquickjs::{Ctx, Exception, FromJs, Function, IntoJs, Object, Result, TypedArray, Value};

use crate::files::Asker;
use crate::sabotage::leaves_out;
use crate::shared::Shared;
use crate::urls::{self, Parts};
use crate::{clock, embed, failure, modules, random, text};

/// All of them, by name.
pub(crate) fn object<'js>(shared: &Rc<Shared>, ctx: &Ctx<'js>) -> Result<Object<'js>> {
    let natives = Object::new_proto(ctx.clone(), None)?;
    time(shared, ctx, &natives)?;
    chance(shared, ctx, &natives)?;
    process(ctx, &natives)?;
    values(shared, ctx, &natives)?;
    texts(ctx, &natives)?;
    addresses(ctx, &natives)?;
    modules(shared, ctx, &natives)?;
    Ok(natives)
}

fn time<'js>(shared: &Rc<Shared>, ctx: &Ctx<'js>, natives: &Object<'js>) -> Result<()> {
    let it = Rc::clone(shared);
    natives.set(
        "now",
        Function::new(ctx.clone(), move || it.clock.now_ms())?,
    )?;
    natives.set("wallClock", Function::new(ctx.clone(), clock::wall_ms)?)?;
    let it = Rc::clone(shared);
    let origin = Function::new(ctx.clone(), move || it.clock.origin_ms())?;
    natives.set("timeOrigin", origin)?;
    let it = Rc::clone(shared);
    let schedule = Function::new(ctx.clone(), move |id: f64, delay: f64, keeps: bool| {
        let now = it.clock.now_ms();
        it.timers
            .borrow_mut()
            .schedule(id as u64, now, delay, keeps);
    })?;
    natives.set("schedule", schedule)?;
    let it = Rc::clone(shared);
    let keep = Function::new(ctx.clone(), move |id: f64, keeps: bool| {
        it.timers.borrow_mut().keep(id as u64, keeps);
    })?;
    natives.set("keep", keep)?;
    let it = Rc::clone(shared);
    let cancel = Function::new(ctx.clone(), move |id: f64| {
        it.timers.borrow_mut().cancel(id as u64);
    })?;
    natives.set("cancel", cancel)
}

fn chance<'js>(shared: &Rc<Shared>, ctx: &Ctx<'js>, natives: &Object<'js>) -> Result<()> {
    let it = Rc::clone(shared);
    let random = Function::new(ctx.clone(), move || it.random.next())?;
    let random = if leaves_out("javascript:generator") {
        ctx.globals().get::<_, Object<'_>>("Math")?.get("random")?
    } else {
        random.with_name("random")?
    };
    natives.set("random", random)?;
    natives.set("entropy", Function::new(ctx.clone(), entropy)?)
}

fn entropy<'js>(ctx: Ctx<'js>, length: usize) -> Result<TypedArray<'js, u8>> {
    let bytes = random::bytes(length)
        .map_err(|error| Exception::throw_message(&ctx, &format!("getrandom: {error}")))?;
    TypedArray::new(ctx, bytes)
}

fn process<'js>(ctx: &Ctx<'js>, natives: &Object<'js>) -> Result<()> {
    natives.set("version", embed::version())?;
    natives.set("processId", Function::new(ctx.clone(), std::process::id)?)?;
    natives.set("write", Function::new(ctx.clone(), write)?)?;
    natives.set("environment", Function::new(ctx.clone(), environment)?)?;
    let directory = || {
        std::env::current_dir().map_or_else(|_| "/".into(), |it| it.to_string_lossy().into_owned())
    };
    natives.set("workingDirectory", Function::new(ctx.clone(), directory)?)
}

/// Straight to the descriptor: what a function printed is not lost when it is killed.
fn write(descriptor: u32, text: String) {
    // Nobody may be reading any more, and that is nothing to end a function for.
    let _ = if descriptor == 2 {
        std::io::stderr().write_all(text.as_bytes())
    } else {
        let mut out = std::io::stdout().lock();
        out.write_all(text.as_bytes()).and_then(|()| out.flush())
    };
}

fn environment(ctx: Ctx<'_>) -> Result<Object<'_>> {
    let environment = Object::new(ctx)?;
    for (name, value) in std::env::vars_os() {
        environment.set(
            name.to_string_lossy().into_owned(),
            value.to_string_lossy().into_owned(),
        )?;
    }
    Ok(environment)
}

fn values<'js>(shared: &Rc<Shared>, ctx: &Ctx<'js>, natives: &Object<'js>) -> Result<()> {
    natives.set(
        "isPromise",
        Function::new(ctx.clone(), |it: Value<'_>| it.is_promise())?,
    )?;
    natives.set(
        "isError",
        Function::new(ctx.clone(), |it: Value<'_>| it.is_error())?,
    )?;
    let state = |it: Value<'_>| match it.as_promise().map(|it| it.state()) {
        Some(PromiseState::Resolved) => "fulfilled",
        Some(PromiseState::Rejected) => "rejected",
        _ => "pending",
    };
    natives.set("promiseState", Function::new(ctx.clone(), state)?)?;
    let it = Rc::clone(shared);
    let stack = Function::new(ctx.clone(), move |error: Object<'_>| {
        failure::stack(&it, &error)
    })?;
    natives.set("stackOf", stack)
}

fn texts<'js>(ctx: &Ctx<'js>, natives: &Object<'js>) -> Result<()> {
    fn encode(ctx: Ctx<'_>, text: String) -> Result<TypedArray<'_, u8>> {
        TypedArray::new(ctx, text.into_bytes())
    }
    fn decode<'js>(
        ctx: Ctx<'js>,
        encoding: String,
        bytes: TypedArray<'js, u8>,
        is_last: bool,
    ) -> Result<Object<'js>> {
        let decoded = text::decode(&encoding, &embed::bytes(&bytes), is_last);
        let result = Object::new_proto(ctx, None)?;
        result.set("text", decoded.text)?;
        result.set("used", decoded.used)?;
        result.set("malformed", decoded.malformed)?;
        Ok(result)
    }
    natives.set("encodeUtf8", Function::new(ctx.clone(), encode)?)?;
    natives.set("decode", Function::new(ctx.clone(), decode)?)?;
    let from = |text: String| Undefined(text::from_base64(&text));
    natives.set("fromBase64", Function::new(ctx.clone(), from)?)?;
    let to = |text: String| Undefined(text::to_base64(&text));
    natives.set("toBase64", Function::new(ctx.clone(), to)?)?;
    let encoding = |label: String| Undefined(text::encoding(&label));
    natives.set("encodingOf", Function::new(ctx.clone(), encoding)?)
}

fn addresses<'js>(ctx: &Ctx<'js>, natives: &Object<'js>) -> Result<()> {
    fn shown<'js>(ctx: &Ctx<'js>, parts: Option<Parts>) -> Result<Undefined<Object<'js>>> {
        let Some(parts) = parts else {
            return Ok(Undefined(None));
        };
        let shown = Object::new_proto(ctx.clone(), None)?;
        for (name, part) in parts.all() {
            shown.set(name, part)?;
        }
        Ok(Undefined(Some(shown)))
    }
    fn parse<'js>(
        ctx: Ctx<'js>,
        url: String,
        base: Opt<Maybe<String>>,
    ) -> Result<Undefined<Object<'js>>> {
        let base = base.0.and_then(|it| it.0);
        shown(&ctx, Parts::parse(&url, base.as_deref()))
    }
    fn change(
        ctx: Ctx<'_>,
        href: String,
        part: String,
        value: String,
    ) -> Result<Undefined<Object<'_>>> {
        shown(&ctx, Parts::with(&href, &part, &value))
    }
    natives.set("parseUrl", Function::new(ctx.clone(), parse)?)?;
    natives.set("changeUrl", Function::new(ctx.clone(), change)?)?;
    let parse = |query: String| urls::parse_form(&query);
    natives.set("parseForm", Function::new(ctx.clone(), parse)?)?;
    let encode = |list: Vec<String>| urls::encode_form(&list);
    natives.set("encodeForm", Function::new(ctx.clone(), encode)?)
}

fn modules<'js>(shared: &Rc<Shared>, ctx: &Ctx<'js>, natives: &Object<'js>) -> Result<()> {
    let it = Rc::clone(shared);
    let resolve = move |ctx: Ctx<'_>, base: String, name: String| {
        modules::resolve(&it, &ctx, &base, &name, Asker::Require)
    };
    natives.set("resolve", Function::new(ctx.clone(), resolve)?)?;
    let it = Rc::clone(shared);
    let common_js = compiling(move |ctx, name| modules::common_js(&it, &ctx, &name));
    natives.set("commonJs", Function::new(ctx.clone(), common_js)?)?;
    let it = Rc::clone(shared);
    let path = move |name: String| it.files.borrow().path(&name).display().to_string();
    natives.set("pathOf", Function::new(ctx.clone(), path)?)?;
    let directory = |name: String| match name.rsplit_once('/') {
        Some(("", _)) => "/".to_owned(),
        Some((directory, _)) => directory.to_owned(),
        None => String::new(),
    };
    natives.set("directoryOf", Function::new(ctx.clone(), directory)?)
}

/// Says of a closure what the compiler does not guess: that the value it returns lives as
/// long as the context it is given.
fn compiling<F>(function: F) -> F
where
    F: for<'js> Fn(Ctx<'js>, String) -> Result<Value<'js>>,
{
    function
}

/// Nothing is `undefined`, not `null`.
struct Undefined<T>(Option<T>);

impl<'js, T: IntoJs<'js>> IntoJs<'js> for Undefined<T> {
    fn into_js(self, ctx: &Ctx<'js>) -> Result<Value<'js>> {
        match self.0 {
            Some(value) => value.into_js(ctx),
            None => Ok(Value::new_undefined(ctx.clone())),
        }
    }
}

/// `undefined` is nothing.
struct Maybe<T>(Option<T>);

impl<'js, T: FromJs<'js>> FromJs<'js> for Maybe<T> {
    fn from_js(ctx: &Ctx<'js>, value: Value<'js>) -> Result<Self> {
        if value.is_undefined() {
            return Ok(Self(None));
        }
        T::from_js(ctx, value).map(|value| Self(Some(value)))
    }
}
