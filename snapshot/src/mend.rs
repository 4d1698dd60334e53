//! A difference between two mapping lists as work for the stub.

use std::os::fd::RawFd;

use crate::diff::Mend;
use crate::image::Image;
use crate::maps::Backing;
use crate::row::{Row, Taint};
use crate::sabotage::leaves_out;
use crate::span::{PAGE, Span};
use crate::stub::Program;

/// True if it concerns what the engine itself mapped.
pub(crate) fn touches_annex(mend: &Mend<'_>, image: &Image) -> bool {
    let (Mend::Unmap(span) | Mend::Remap(span, _) | Mend::Protect(span, _)) = mend;
    let annex = &image.annex;
    let code = Span::new(annex.code, annex.code + PAGE);
    [
        (code, "annex:code"),
        (annex.view, "annex:view"),
        (annex.table, "annex:table"),
        (annex.scratch, "annex:scratch"),
    ]
    .into_iter()
    .any(|(own, handler)| !own.intersection(*span).is_empty() && !leaves_out(handler))
}

/// Adds the calls that undo one difference.
///
/// # Errors
/// What was there cannot be mapped again.
pub(crate) fn plan_mend(
    mend: &Mend<'_>,
    image: &Image,
    image_descriptor: RawFd,
    program: &mut Program,
) -> Result<(), Taint> {
    match mend {
        Mend::Unmap(span) => program.checked_call(
            Row::Mappings,
            libc::SYS_munmap,
            &[span.start, span.len()],
            0,
        ),
        Mend::Protect(span, protection) => program.checked_call(
            Row::Mappings,
            libc::SYS_mprotect,
            &[span.start, span.len(), *protection as u64],
            0,
        ),
        Mend::Remap(span, was) => {
            if leaves_out("mappings:irreplaceable") && was.backing != Backing::Anonymous {
                return Ok(());
            }
            if was.shared || matches!(was.backing, Backing::Stack | Backing::Kernel) {
                return Err(Taint::new(
                    Row::Mappings,
                    format!("{span} ({}) is gone or replaced", was.name),
                ));
            }
            if image
                .wiped
                .iter()
                .any(|wiped| !wiped.intersection(*span).is_empty())
            {
                // Mapped again it would be memory like any other, and forks would
                // inherit the random state in it.
                return Err(Taint::new(
                    Row::Mappings,
                    format!("{span}, which forks must not inherit, is gone or replaced"),
                ));
            }
            let mut rest = *span;
            while !rest.is_empty() {
                let (piece, offset) = image.leading(rest);
                let (flags, descriptor, offset) = match (offset, &was.backing) {
                    (Some(offset), _) => (0, image_descriptor, offset),
                    (None, Backing::Anonymous) => (libc::MAP_ANONYMOUS, -1, 0),
                    (None, _) => {
                        return Err(Taint::new(
                            Row::Mappings,
                            format!("{piece} of {} is gone or replaced", was.name),
                        ));
                    }
                };
                program.checked_call(
                    Row::Mappings,
                    libc::SYS_mmap,
                    &[
                        piece.start,
                        piece.len(),
                        was.protection as u64,
                        (libc::MAP_PRIVATE | libc::MAP_FIXED | flags) as u64,
                        i64::from(descriptor).cast_unsigned(),
                        offset,
                    ],
                    piece.start.cast_signed(),
                );
                rest.start = piece.end;
            }
        }
    }
    Ok(())
}
