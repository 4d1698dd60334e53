//! That the main stack still grows. A function can put ordinary memory in the place of
//! its stack, and no list of mappings shows the difference: the next one's recursion
//! would end where this one's stack did.

use crate::maps::{Backing, Mapping};
use crate::row::Row;
use crate::span::PAGE;
use crate::stub::Program;

/// Has the kernel write below the stack, which grows it (mmap(2), `MAP_GROWSDOWN`) or
/// fails, and takes the growth away again.
pub(crate) fn growing(mappings: &[Mapping]) -> Program {
    let mut program = Program::default();
    let stack = mappings
        .iter()
        .find(|mapping| mapping.backing == Backing::Stack);
    if let Some(stack) = stack {
        let start = stack.span.start;
        let row = Row::Mappings;
        program.checked_call(row, libc::SYS_getcpu, &[start - 8, 0, 0], 0);
        program.checked_call(row, libc::SYS_munmap, &[start - PAGE, PAGE], 0);
    }
    program
}
