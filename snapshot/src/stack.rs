//! That the main stack still grows. A function can put ordinary memory in the place of
//! its stack, and no list of mappings shows the difference: the next one's recursion
//! would end where this one's stack did.

use crate::maps::{Backing, Mapping};
use crate::row::Row;
use crate::span::PAGE;
use crate::stub::Program;

/// Gives the stack the rights that it has, from where it grows on: what does not grow has no
/// such place (mprotect(2), `PROT_GROWSDOWN`).
pub(crate) fn growing(mappings: &[Mapping]) -> Program {
    let mut program = Program::default();
    let stack = mappings
        .iter()
        .find(|mapping| mapping.backing == Backing::Stack);
    if let Some(stack) = stack {
        let rights = (stack.protection | libc::PROT_GROWSDOWN) as u64;
        let arguments = [stack.span.start, PAGE, rights];
        program.checked_call(Row::Mappings, libc::SYS_mprotect, &arguments, 0);
    }
    program
}
