//! The embedded runtimes that this program was built with. An image has one, and so should a
//! program that is measured: each library is there to be scanned, compared and forked, the
//! interpreter of another language's too.

use refunction_adapter::{Adapter, BootError};

/// A booted runtime, as a template has it.
pub(crate) type Booted = Result<Box<dyn Adapter>, BootError>;

#[cfg(feature = "python")]
pub(crate) fn python() -> Booted {
    let mut python = refunction_python::Python::new();
    python.boot()?;
    python.preload(&crate::libraries())?;
    settled(python)
}

#[cfg(feature = "javascript")]
pub(crate) fn javascript() -> Booted {
    let mut javascript = refunction_javascript::JavaScript::new();
    javascript.boot()?;
    settled(javascript)
}

#[cfg(feature = "lua")]
pub(crate) fn lua() -> Booted {
    let mut lua = refunction_lua::Lua::new();
    lua.boot()?;
    settled(lua)
}

#[cfg(not(feature = "python"))]
pub(crate) use self::absent as python;

#[cfg(not(feature = "javascript"))]
pub(crate) use self::absent as javascript;

#[cfg(not(feature = "lua"))]
pub(crate) use self::absent as lua;

#[cfg(not(all(feature = "python", feature = "javascript", feature = "lua")))]
pub(crate) fn absent() -> Booted {
    Err(BootError {
        doing: "booting".into(),
        cause: "this program was built without the runtime".into(),
    })
}

#[cfg(any(feature = "python", feature = "javascript", feature = "lua"))]
fn settled(mut adapter: impl Adapter + 'static) -> Booted {
    adapter.settle()?;
    Ok(Box::new(adapter))
}
