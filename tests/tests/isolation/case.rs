//! What a case is, and the function that both its tenants load.

/// How the container is to come back.
#[derive(Debug, Clone, Copy)]
pub enum Way {
    /// The worker is put back in place.
    Rewind,
    /// The worker is replaced, because of these rows of the state table.
    Refork(&'static [&'static str]),
    /// Put back, or replaced because of these: the tenant's own threads race for it.
    Either(&'static [&'static str]),
}

/// How it is shown that nothing is left of what was done.
#[derive(Debug, Clone, Copy)]
pub enum Proof {
    /// Python that leaves in `seen` what it sees: the same wherever nothing was
    /// changed.
    Look(&'static str),
    /// What was done is an attempt. It leaves this in `seen`, as JSON, and nothing
    /// is changed.
    Answers(&'static str),
    /// What was done ends the worker with an error of this kind; the next tenant's
    /// look, which is that of a clean container, follows.
    Ends(&'static str, &'static str),
}

/// A case is known to fail where the worker is rewound. It is to fail in just this
/// way, and fails if it passes: a hole that was closed must not go on being listed.
#[derive(Debug, Clone, Copy)]
pub struct Hole {
    /// Part of how it shows.
    pub shows: &'static str,
    pub why: &'static str,
}

/// One thing that a tenant does to those who come after it.
#[derive(Debug)]
pub struct Case {
    pub name: &'static str,
    pub way: Way,
    /// What tenant A does; what it leaves in `hint` the looks are told.
    pub change: &'static str,
    pub proof: Proof,
    pub hole: Option<Hole>,
    /// True if there is nothing to try it on but in a container.
    pub only_in_container: bool,
    /// True if a container's seccomp profile refuses it, which changes nothing.
    pub refused_by_profile: bool,
}

/// A change, and the look that sees it.
pub const fn case(name: &'static str, way: Way, change: &'static str, look: &'static str) -> Case {
    Case {
        name,
        way,
        change,
        proof: Proof::Look(look),
        hole: None,
        only_in_container: false,
        refused_by_profile: false,
    }
}

/// Something that a tenant is not to be able to do, and what it is told instead.
pub const fn attempt(
    name: &'static str,
    way: Way,
    change: &'static str,
    answers: &'static str,
) -> Case {
    Case {
        proof: Proof::Answers(answers),
        ..case(name, way, change, "")
    }
}

/// Something that costs the tenant its worker.
pub const fn ending(
    name: &'static str,
    kind: &'static str,
    change: &'static str,
    look: &'static str,
) -> Case {
    Case {
        proof: Proof::Ends(kind, look),
        ..case(name, Way::Rewind, change, "")
    }
}

impl Case {
    /// A case that is known to fail where the worker is rewound.
    pub const fn known_hole(self, shows: &'static str, why: &'static str) -> Self {
        Self {
            hole: Some(Hole { shows, why }),
            ..self
        }
    }

    /// A case that needs what only a container has.
    pub const fn in_container(self) -> Self {
        Self {
            only_in_container: true,
            ..self
        }
    }

    /// A case whose calls containerd's default seccomp profile refuses.
    pub const fn refused_by_profile(self) -> Self {
        Self {
            refused_by_profile: true,
            ..self
        }
    }

    /// Both tenants' function: the change and the look, in one source.
    pub fn source(&self, tag: &str) -> String {
        let look = match self.proof {
            Proof::Look(look) | Proof::Ends(_, look) => look,
            Proof::Answers(_) => "",
        };
        PRELUDE
            .replace("@TAG", &format!("{tag:?}"))
            .replace("@CHANGE", &indented(self.change))
            .replace("@LOOK", &indented(look))
    }
}

fn indented(fragment: &str) -> String {
    fragment
        .trim_matches('\n')
        .lines()
        .map(|line| format!("    {line}\n"))
        .collect()
}

/// What fragments may use: modules, the C library, and a few looks that many share.
const PRELUDE: &str = include_str!("prelude.py");
