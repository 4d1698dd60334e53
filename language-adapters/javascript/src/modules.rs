//! Modules, of either kind: what a name means, what a text is, and how it is compiled.

use std::rc::Rc;

use rquickjs::loader::{ImportAttributes, Loader, Resolver};
use rquickjs::module::Declared;
use rquickjs::{Ctx, Error, Exception, Function, Module, Object, Value};

use crate::failure::syntax_error_place;
use crate::files::Asker;
use crate::shared::Shared;

/// What stands before a CommonJS module, on its first line so that its lines keep their
/// numbers.
pub(crate) const WRAPPER_BEGIN: &str =
    "(function (exports, require, module, __filename, __dirname) {";
const WRAPPER_END: &str = "})";

/// Words that no variable can have as its name.
const RESERVED: &str = " arguments await break case catch class const continue debugger default \
    delete do else enum eval export extends false finally for function if implements import in \
    instanceof interface let new null __proto__ package private protected public return static super \
    switch this throw true try typeof var void while with yield ";

/// A text, compiled and not yet run.
pub(crate) enum Compiled<'js> {
    /// The body of a CommonJS module.
    Script(Function<'js>),
    Module(Module<'js, Declared>),
    /// What stands in a file of JSON.
    Json(Value<'js>),
}

/// Reads and compiles a module. What names and packages leave open, the text decides: it
/// is an ECMAScript module if it cannot be read as a script.
pub(crate) fn compile<'js>(
    shared: &Shared,
    ctx: &Ctx<'js>,
    name: &str,
    entries: &[&str],
) -> rquickjs::Result<Compiled<'js>> {
    let text = shared.files.borrow().read(name);
    let text = text
        .unwrap_or_else(|| Err(format!("Cannot find module '{name}'")))
        .map_err(|reason| Exception::throw_message(ctx, &reason))?;
    if name.ends_with(".json") {
        return json(ctx, name, text).map(Compiled::Json);
    }
    let is_module = match name.rsplit_once('.') {
        Some((_, "mjs")) => Some(true),
        Some((_, "cjs")) => Some(false),
        _ => shared.files.borrow().is_module_by_package(name),
    };
    match is_module {
        Some(true) => module(shared, ctx, name, &text).map(Compiled::Module),
        Some(false) => script(shared, ctx, name, &text, entries).map(Compiled::Script),
        None => either(shared, ctx, name, &text, entries),
    }
}

fn json<'js>(ctx: &Ctx<'js>, name: &str, text: String) -> rquickjs::Result<Value<'js>> {
    ctx.json_parse(text).map_err(|error| {
        // QuickJS does not say in which file.
        match ctx.catch().as_exception().and_then(Exception::message) {
            Some(message) => Exception::throw_syntax(ctx, &format!("{name}: {message}")),
            None => error,
        }
    })
}

fn either<'js>(
    shared: &Shared,
    ctx: &Ctx<'js>,
    name: &str,
    text: &str,
    entries: &[&str],
) -> rquickjs::Result<Compiled<'js>> {
    match script(shared, ctx, name, text, entries) {
        Err(Error::Exception) => {}
        other => return other.map(Compiled::Script),
    }
    let as_script = ctx.catch();
    match module(shared, ctx, name, text) {
        Err(Error::Exception) => {}
        other => return other.map(Compiled::Module),
    }
    let as_module = ctx.catch();
    // The reading that got further is the one that was meant.
    let mut script_at = syntax_error_place(&as_script, name);
    if let Some((1, column)) = &mut script_at {
        *column = column.saturating_sub(WRAPPER_BEGIN.len());
    }
    let is_script =
        syntax_error_place(&as_module, name).is_some_and(|place| script_at > Some(place));
    Err(ctx.throw(if is_script {
        shared.wrapped.borrow_mut().insert(name.to_owned());
        as_script
    } else {
        as_module
    }))
}

/// The text as the body of a function, which gives what these names stand for at its end.
fn script<'js>(
    shared: &Shared,
    ctx: &Ctx<'js>,
    name: &str,
    text: &str,
    entries: &[&str],
) -> rquickjs::Result<Function<'js>> {
    let mut source = String::with_capacity(WRAPPER_BEGIN.len() + text.len() + 256);
    source.push_str(WRAPPER_BEGIN);
    if text.starts_with("#!") {
        source.push_str("//");
    }
    source.push_str(text);
    source.push('\n');
    let entries = entries.iter().filter(|it| is_variable(it));
    let entries: Vec<String> = entries
        .map(|it| format!("{it}: typeof {it} === 'undefined' ? undefined : {it}"))
        .collect();
    if !entries.is_empty() {
        source.push_str(&format!(
            ";return {{__proto__: null, {}}}",
            entries.join(", ")
        ));
    }
    source.push_str(WRAPPER_END);
    let mut options = rquickjs::context::EvalOptions::default();
    options.strict = false;
    options.filename = Some(name.to_owned());
    let function = ctx.eval_with_options(source, options)?;
    shared.wrapped.borrow_mut().insert(name.to_owned());
    Ok(function)
}

fn is_variable(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '$')
        && !RESERVED.contains(&format!(" {name} "))
}

fn module<'js>(
    shared: &Shared,
    ctx: &Ctx<'js>,
    name: &str,
    text: &str,
) -> rquickjs::Result<Module<'js, Declared>> {
    let module = Module::declare(ctx.clone(), name, text)?;
    let meta = module.meta()?;
    let files = shared.files.borrow();
    let path = files.path(name);
    let directory = path.parent().unwrap_or(&path);
    meta.set("url", format!("file://{}", path.display()))?;
    meta.set("filename", path.display().to_string())?;
    meta.set("dirname", directory.display().to_string())?;
    Ok(module)
}

/// The modules of a context.
pub(crate) struct Modules(pub(crate) Rc<Shared>);

impl Resolver for Modules {
    fn resolve<'js>(
        &mut self,
        ctx: &Ctx<'js>,
        base: &str,
        name: &str,
        _: Option<ImportAttributes<'js>>,
    ) -> rquickjs::Result<String> {
        // The adapter itself asks for a module that it has found already.
        if base.is_empty() {
            return Ok(name.to_owned());
        }
        resolve(&self.0, ctx, base, name, Asker::Import)
    }
}

/// The module that a specifier names.
pub(crate) fn resolve(
    shared: &Shared,
    ctx: &Ctx<'_>,
    base: &str,
    specifier: &str,
    asker: Asker,
) -> rquickjs::Result<String> {
    let found = shared.files.borrow().resolve(base, specifier, asker);
    found.ok_or_else(|| {
        let mut message = format!("Cannot find module '{specifier}' imported from {base}");
        if specifier.starts_with("node:") {
            message.push_str(": this is QuickJS, which has none of Node.js's own modules");
        }
        throw(ctx, &message, "ERR_MODULE_NOT_FOUND")
    })
}

/// An error with a code, as Node.js has them.
fn throw(ctx: &Ctx<'_>, message: &str, code: &str) -> Error {
    let thrown = Exception::from_message(ctx.clone(), message).and_then(|exception| {
        exception.as_object().set("code", code)?;
        Ok(exception.throw())
    });
    thrown.unwrap_or_else(|error| error)
}

impl Loader for Modules {
    fn load<'js>(
        &mut self,
        ctx: &Ctx<'js>,
        name: &str,
        _: Option<ImportAttributes<'js>>,
    ) -> rquickjs::Result<Module<'js, Declared>> {
        let (value, source) = match compile(&self.0, ctx, name, &[])? {
            Compiled::Module(module) => return Ok(module),
            Compiled::Json(value) => (value, "export default import.meta.value;".to_owned()),
            Compiled::Script(_) => {
                let text = self.0.files.borrow().read(name);
                let names = exported_names(&text.and_then(Result::ok).unwrap_or_default());
                let load = self.0.call(ctx, "loaderOf", (name,))?;
                (load, facade(&names))
            }
        };
        let module = Module::declare(ctx.clone(), name, source)?;
        module.meta()?.set("value", value)?;
        Ok(module)
    }
}

/// The ECMAScript module that stands for a CommonJS one: it is run when its turn comes,
/// and has the names that were found in its text.
fn facade(names: &[String]) -> String {
    let mut source = "const it = import.meta.value(); export default it;".to_owned();
    for (number, name) in names.iter().enumerate() {
        source.push_str(&format!(
            "const e{number} = it?.{name}; export {{ e{number} as {name} }};"
        ));
    }
    source
}

/// What a CommonJS module gives away by name, as far as its text shows: assignments to
/// `exports.name`, and the names in a literal that becomes `module.exports`.
fn exported_names(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut add = |name: &str| {
        if !name.is_empty()
            && name != "default"
            && name != "__esModule"
            && !name.starts_with(|first: char| first.is_ascii_digit())
            && !names.iter().any(|it| it == name)
        {
            names.push(name.to_owned());
        }
    };
    let word = |text: &str| -> usize {
        text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '$'))
            .unwrap_or(text.len())
    };
    for (at, _) in text.match_indices("exports") {
        let rest = &text[at + "exports".len()..];
        if let Some(rest) = rest.strip_prefix('.') {
            let (name, rest) = rest.split_at(word(rest));
            let rest = rest.trim_start();
            if rest.starts_with('=') && !rest.starts_with("==") {
                add(name);
            }
        } else if let Some(mut rest) = rest
            .trim_start()
            .strip_prefix('=')
            .and_then(|rest| rest.trim_start().strip_prefix('{'))
        {
            // As long as it is names, alone or with a value that is one.
            loop {
                rest = rest.trim_start();
                let (name, after) = rest.split_at(word(rest));
                add(name);
                let after = after.trim_start();
                let Some(next) = after.find([',', '}', '{', '(', '[']) else {
                    break;
                };
                if !after[next..].starts_with(',') {
                    break;
                }
                rest = &after[next + 1..];
            }
        }
    }
    names
}

/// What `require` is to run, for the prelude.
pub(crate) fn common_js<'js>(
    shared: &Shared,
    ctx: &Ctx<'js>,
    name: &str,
) -> rquickjs::Result<Value<'js>> {
    match compile(shared, ctx, name, &[])? {
        Compiled::Script(function) => Ok(function.into_value()),
        Compiled::Json(value) => {
            let json = Object::new(ctx.clone())?;
            json.set("value", value)?;
            Ok(json.into_value())
        }
        Compiled::Module(_) => Err(throw(
            ctx,
            &format!(
                "{name} is an ECMAScript module, which require() cannot wait for: use import()"
            ),
            "ERR_REQUIRE_ESM",
        )),
    }
}

/// Functions and classes that a text declares outside of all blocks, for a message.
pub(crate) fn declared_names(text: &str) -> Vec<String> {
    text.lines()
        .filter_map(|line| {
            let line = line.strip_prefix("async ").unwrap_or(line);
            let rest = line
                .strip_prefix("function")
                .map(|rest| rest.trim_start_matches('*'))
                .or_else(|| line.strip_prefix("class"))?;
            let name: String = rest
                .strip_prefix(' ')?
                .trim_start()
                .chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_' || *c == '$')
                .collect();
            (!name.is_empty()).then_some(name)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_a_script_exports_are_found() {
        for (text, expected) in [
            ("exports.a = 1; module.exports.b = 2;", &["a", "b"][..]),
            ("module.exports = { a, b: c, d: 1 };", &["a", "b", "d"]),
            ("module.exports = {\n  a,\n  b,\n};", &["a", "b"]),
            ("if (exports.a === 1) {}", &[]),
            ("exports.default = 1; exports.__esModule = true;", &[]),
            ("module.exports = function () {};", &[]),
        ] {
            assert_eq!(exported_names(text), expected, "{text}");
        }
    }

    #[test]
    fn variables_are_told_from_other_words() {
        for (name, expected) in [
            ("main", true),
            ("$_1", true),
            ("default", false),
            ("1a", false),
            ("a b", false),
            ("", false),
        ] {
            assert_eq!(is_variable(name), expected, "{name:?}");
        }
    }

    #[test]
    fn declarations_are_found() {
        let text = "function a() {}\n  function inner() {}\nasync function b() {}\nclass C {}\nfunction* d() {}\nconst e = 1;\nfunctional();";
        assert_eq!(declared_names(text), ["a", "b", "C", "d"]);
    }
}
