//! What depends on the processor: registers, the stub's code, the ready point.

#[cfg(target_arch = "x86_64")]
mod x86_64;
#[cfg(target_arch = "x86_64")]
pub(crate) use x86_64::*;

#[cfg(not(target_arch = "x86_64"))]
compile_error!("refunction-snapshot knows the registers of x86_64 only");
