//! What it takes to make one mapping list the other.

use crate::maps::{Backing, Mapping, Protection};
use crate::sabotage::leaves_out;
use crate::span::Span;

/// One difference.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Mend<'a> {
    /// Nothing was here.
    Unmap(Span),
    /// This part of that mapping was here; now it is nothing, or something else.
    Remap(Span, &'a Mapping),
    /// The same thing with other rights.
    Protect(Span, Protection),
}

/// The steps from `now` to `then`; both ascending. Removals come in order with the
/// rest: each step concerns its own addresses only.
pub(crate) fn mends<'a>(then: &'a [Mapping], now: &[Mapping]) -> Vec<Mend<'a>> {
    let mut mends = Vec::new();
    let mut edges: Vec<u64> = then
        .iter()
        .chain(now)
        .flat_map(|mapping| [mapping.span.start, mapping.span.end])
        .collect();
    edges.sort_unstable();
    edges.dedup();
    let (mut old, mut new) = (then, now);
    for edge in edges.windows(2) {
        let span = Span::new(edge[0], edge[1]);
        let was = at(&mut old, span.start);
        let is = at(&mut new, span.start);
        let mend = match (was, is) {
            (None, None) => continue,
            (None, Some(_)) => Mend::Unmap(span),
            (Some(was), None) => Mend::Remap(span, was),
            (Some(was), Some(is)) => {
                let same_backing = (was.shared == is.shared || leaves_out("mappings:diff-shared"))
                    && (backing_at(was, span.start) == backing_at(is, span.start)
                        || leaves_out("mappings:diff-backing"));
                let same_rights =
                    was.protection == is.protection || leaves_out("mappings:diff-protection");
                match (same_backing, same_rights) {
                    (true, true) => continue,
                    (true, false) => Mend::Protect(span, was.protection),
                    (false, _) => Mend::Remap(span, was),
                }
            }
        };
        join(&mut mends, mend);
    }
    mends
}

fn at<'a>(rest: &mut &'a [Mapping], address: u64) -> Option<&'a Mapping> {
    while let [first, later @ ..] = *rest {
        if first.span.end > address {
            return first.span.contains(address).then_some(first);
        }
        *rest = later;
    }
    None
}

fn backing_at(mapping: &Mapping, address: u64) -> Backing {
    mapping.backing.advanced(address - mapping.span.start)
}

fn join<'a>(mends: &mut Vec<Mend<'a>>, mend: Mend<'a>) {
    let joined = match (mends.last_mut(), &mend) {
        (Some(Mend::Unmap(last)), Mend::Unmap(span)) if last.end == span.start => {
            last.end = span.end;
            true
        }
        (Some(Mend::Protect(last, a)), Mend::Protect(span, b))
            if last.end == span.start && *a == *b =>
        {
            last.end = span.end;
            true
        }
        (Some(Mend::Remap(last, a)), Mend::Remap(span, b))
            if last.end == span.start && std::ptr::eq(*a, *b) =>
        {
            last.end = span.end;
            true
        }
        _ => false,
    };
    if !joined {
        mends.push(mend);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::span::PAGE;

    fn mapping(from: u64, to: u64, protection: Protection, inode: u64) -> Mapping {
        let backing = if inode == 0 {
            Backing::Anonymous
        } else {
            Backing::File {
                device: (0, 1),
                inode,
                offset: from * PAGE,
            }
        };
        Mapping {
            span: Span::new(from * PAGE, to * PAGE),
            protection,
            shared: false,
            backing,
            name: "".into(),
        }
    }

    fn span(from: u64, to: u64) -> Span {
        Span::new(from * PAGE, to * PAGE)
    }

    #[test]
    fn equal_lists_need_nothing() {
        let list = [mapping(1, 4, 3, 0), mapping(4, 9, 1, 7)];
        assert_eq!(mends(&list, &list), []);
    }

    #[test]
    fn a_new_mapping_between_two_goes_away() {
        let then = [mapping(1, 4, 3, 0)];
        let now = [mapping(1, 6, 3, 0), mapping(8, 9, 3, 0)];
        assert_eq!(
            mends(&then, &now),
            [Mend::Unmap(span(4, 6)), Mend::Unmap(span(8, 9))]
        );
    }

    #[test]
    fn a_hole_a_changed_right_and_a_replaced_file_are_told_apart() {
        let then = [mapping(1, 9, 3, 7)];
        let now = [
            mapping(1, 3, 3, 7),
            mapping(4, 6, 1, 7),
            mapping(6, 9, 3, 8),
        ];
        assert_eq!(
            mends(&then, &now),
            [
                Mend::Remap(span(3, 4), &then[0]),
                Mend::Protect(span(4, 6), 3),
                Mend::Remap(span(6, 9), &then[0]),
            ]
        );
    }

    #[test]
    fn a_file_mapped_at_another_offset_is_another_mapping() {
        let then = [mapping(2, 4, 3, 7)];
        let mut moved = mapping(2, 4, 3, 7);
        moved.backing = moved.backing.advanced(PAGE);
        assert_eq!(mends(&then, &[moved]), [Mend::Remap(span(2, 4), &then[0])]);
    }

    /// Disjoint mappings over a few pages.
    fn lists() -> impl Strategy<Value = Vec<Mapping>> {
        prop::collection::vec((0u64..3, 1u64..5, 0..4i32, 0u64..3), 0..8).prop_map(|parts| {
            let mut at = 1;
            let mut list = Vec::new();
            for (gap, pages, protection, inode) in parts {
                at += gap;
                list.push(mapping(at, at + pages, protection, inode));
                at += pages;
            }
            list
        })
    }

    /// What a page looks like in a list.
    fn page(list: &[Mapping], number: u64) -> Option<(Protection, Backing)> {
        let address = number * PAGE;
        list.iter()
            .find(|mapping| mapping.span.contains(address))
            .map(|mapping| (mapping.protection, backing_at(mapping, address)))
    }

    proptest! {
        #[test]
        fn mending_makes_one_list_the_other(then in lists(), now in lists()) {
            let mut pages: Vec<_> = (0..64).map(|number| page(&now, number)).collect();
            for mend in mends(&then, &now) {
                let (Mend::Unmap(span) | Mend::Remap(span, _) | Mend::Protect(span, _)) = mend;
                for address in span.page_addresses() {
                    let number = address / PAGE;
                    let page = &mut pages[number as usize];
                    *page = match &mend {
                        Mend::Unmap(_) => None,
                        Mend::Remap(_, was) => {
                            Some((was.protection, backing_at(was, address)))
                        }
                        Mend::Protect(_, protection) => {
                            page.take().map(|(_, backing)| (*protection, backing))
                        }
                    };
                }
            }
            for number in 0..64 {
                prop_assert_eq!(&pages[number as usize], &page(&then, number));
            }
        }
    }
}
