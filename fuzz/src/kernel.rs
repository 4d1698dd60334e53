//! What the kernel prints of a process. It is trusted, but a tenant chooses the names.

use std::fmt::Write;

use arbitrary::{Arbitrary, Unstructured};
use refunction_snapshot::fuzzing::{self, Mapping};

const PAGE: u64 = 4096;

/// Any bytes as a mapping list.
pub fn mapping_list(input: &[u8]) {
    let Some(mappings) = fuzzing::mappings(input) else {
        return;
    };
    let lines = input.split(|byte| *byte == b'\n');
    assert_eq!(
        mappings.len(),
        lines.filter(|line| !line.is_empty()).count()
    );
    for mapping in mappings {
        assert!(mapping.start < mapping.end);
        assert!(mapping.start.is_multiple_of(PAGE) && mapping.end.is_multiple_of(PAGE));
    }
}

/// Any mappings come back as proc_pid_maps(5) prints them.
pub fn mappings(input: &[u8]) {
    let Ok(mappings) = Unstructured::new(input).arbitrary::<Vec<SomeMapping>>() else {
        return;
    };
    let text: String = mappings.iter().map(SomeMapping::line).collect();
    let expected: Vec<Mapping> = mappings.into_iter().map(SomeMapping::mapping).collect();
    assert_eq!(fuzzing::mappings(text.as_bytes()), Some(expected), "{text}");
}

#[derive(Debug, Arbitrary)]
struct SomeMapping {
    page: u32,
    pages: u16,
    rights: u8,
    shared: bool,
    behind: Behind,
}

#[derive(Debug, Arbitrary)]
enum Behind {
    Nothing,
    /// The kernel's own, or named by the tenant (prctl(2), `PR_SET_VMA_ANON_NAME`).
    Named(Name),
    File {
        device: (u8, u8),
        inode: u64,
        offset: u32,
        path: String,
    },
}

#[derive(Debug, Arbitrary)]
enum Name {
    Stack,
    Heap,
    Vdso,
    Vvar,
    Anonymous(String),
}

impl SomeMapping {
    fn start(&self) -> u64 {
        u64::from(self.page) * PAGE
    }

    fn end(&self) -> u64 {
        self.start() + (u64::from(self.pages) + 1) * PAGE
    }

    fn line(&self) -> String {
        let right = |bit, letter| if self.rights & bit == 0 { '-' } else { letter };
        let (device, inode, offset) = match &self.behind {
            Behind::File {
                device,
                inode,
                offset,
                ..
            } => (*device, *inode, u64::from(*offset) * PAGE),
            _ => ((0, 0), 0, 0),
        };
        let mut line = format!(
            "{:08x}-{:08x} {}{}{}{} {offset:08x} {:02x}:{:02x} {inode} ",
            self.start(),
            self.end(),
            right(1, 'r'),
            right(2, 'w'),
            right(4, 'x'),
            if self.shared { 's' } else { 'p' },
            device.0,
            device.1,
        );
        let name = self.name();
        if !name.is_empty() {
            // The kernel pads up to the column of names.
            while line.len() < 73 {
                line.push(' ');
            }
            line.push_str(&name);
        }
        line.push('\n');
        line
    }

    /// As the kernel prints it: a newline as its number.
    fn name(&self) -> String {
        match &self.behind {
            Behind::Nothing => String::new(),
            Behind::Named(Name::Stack) => "[stack]".into(),
            Behind::Named(Name::Heap) => "[heap]".into(),
            Behind::Named(Name::Vdso) => "[vdso]".into(),
            Behind::Named(Name::Vvar) => "[vvar]".into(),
            Behind::Named(Name::Anonymous(name)) => format!("[anon:{}]", escaped(name)),
            Behind::File { path, .. } => format!("/{}", escaped(path)),
        }
    }

    fn mapping(self) -> Mapping {
        let file = match &self.behind {
            Behind::File {
                device,
                inode,
                offset,
                ..
            } if *inode != 0 => Some((
                (device.0.into(), device.1.into()),
                *inode,
                u64::from(*offset) * PAGE,
            )),
            _ => None,
        };
        Mapping {
            start: self.start(),
            end: self.end(),
            protection: i32::from(self.rights & 7),
            shared: self.shared,
            file,
            name: self.name(),
        }
    }
}

fn escaped(name: &str) -> String {
    name.replace('\n', "\\012")
}

/// Any bytes, and any numbers among other lines, as an `fdinfo`.
pub fn fdinfo(input: &[u8]) {
    let _ = fuzzing::descriptor(input);
    let Ok((position, flags, more)) = Unstructured::new(input).arbitrary::<(i64, u32, String)>()
    else {
        return;
    };
    let mut text = format!("pos:\t{position}\nflags:\t0{flags:o}\nmnt_id:\t9\n");
    write!(text, "{more}").expect("a string takes all");
    assert_eq!(
        fuzzing::descriptor(text.as_bytes()),
        Some((position, flags.into())),
        "{text}"
    );
}
