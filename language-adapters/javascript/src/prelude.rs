//! What stands in each context before a tenant's function does: what the web and Node.js
//! offer and the language has not, and the calling of functions.

use std::rc::Rc;

use rquickjs::context::EvalOptions;
use rquickjs::{Ctx, Function, Object};

use crate::natives;
use crate::shared::Shared;

/// How the files of the prelude are called; marks the frames that no tenant sees.
pub(crate) const FILE_PREFIX: &str = "<refunction>/";

/// In this order: what a part returns, the parts after it find in `tools`.
const PARTS: &[(&str, &str)] = &[
    ("timers.js", include_str!("prelude/timers.js")),
    ("process.js", include_str!("prelude/process.js")),
    ("console.js", include_str!("prelude/console.js")),
    ("crypto.js", include_str!("prelude/crypto.js")),
    ("encoding.js", include_str!("prelude/encoding.js")),
    ("url.js", include_str!("prelude/url.js")),
    ("clone.js", include_str!("prelude/clone.js")),
    ("entry.js", include_str!("prelude/entry.js")),
    ("modules.js", include_str!("prelude/modules.js")),
];
const PRIMORDIALS: (&str, &str) = ("primordials.js", include_str!("prelude/primordials.js"));

/// Makes a new context ready for a function, and hands the prelude's tools to `shared`.
pub(crate) fn install<'js>(shared: &Rc<Shared>, ctx: &Ctx<'js>) -> rquickjs::Result<()> {
    let natives = natives::object(shared, ctx)?;
    let own: Object<'js> = part(ctx, PRIMORDIALS)?.call(())?;
    let tools = Object::new_proto(ctx.clone(), None)?;
    for source in PARTS {
        let given: Option<Object<'js>> =
            part(ctx, *source)?.call((natives.clone(), own.clone(), tools.clone()))?;
        for tool in given.into_iter().flat_map(|it| it.props()) {
            let (name, tool): (String, rquickjs::Value<'js>) = tool?;
            tools.set(name, tool)?;
        }
    }
    shared.set_tools(ctx, tools);
    Ok(())
}

fn part<'js>(ctx: &Ctx<'js>, (name, source): (&str, &str)) -> rquickjs::Result<Function<'js>> {
    let mut options = EvalOptions::default();
    options.filename = Some(format!("{FILE_PREFIX}{name}"));
    ctx.eval_with_options(source, options)
}
