//! A worker, whichever way it came about, and its pipes.

use nix::unistd::Pid;
use refunction_adapter::channel::Kind;
use refunction_adapter::{Exception, Runtime};
use refunction_protocol::Stream;
use refunction_snapshot::{
    Engine, EngineError, Holding, InPlace, Refused, Rewound, Starting, Template, Worker,
};

use crate::logs::Line;
use crate::pipes::{BadFrame, Pipes};

/// A worker.
pub(crate) enum Standing {
    /// Forked from the template of this generation.
    Forked(Box<Worker>, u64),
    /// Its own template.
    InPlace(Box<InPlace>),
}

impl Standing {
    pub(crate) fn pid(&self) -> Pid {
        match self {
            Self::Forked(worker, _) => worker.pid(),
            Self::InPlace(worker) => worker.pid(),
        }
    }

    /// Which template it was forked from, if it was.
    pub(crate) fn generation(&self) -> Option<u64> {
        match self {
            Self::Forked(_, generation) => Some(*generation),
            Self::InPlace(_) => None,
        }
    }

    pub(crate) fn hold(&mut self, engine: &mut Engine) -> Result<Holding, Refused> {
        match self {
            Self::Forked(worker, _) => engine.hold(worker),
            Self::InPlace(worker) => engine.hold(worker.worker()),
        }
    }

    pub(crate) fn discard(self, engine: &mut Engine) -> Result<(), EngineError> {
        match self {
            Self::Forked(worker, _) => engine.discard(*worker),
            Self::InPlace(worker) => engine.discard_in_place(*worker),
        }
    }
}

/// Where workers come from.
pub(crate) enum Source {
    /// Forks of this template.
    Template(Template),
    /// Each is its own, and this many bytes of its snapshot.
    Spares(u64),
}

impl Source {
    /// Bytes of the snapshot.
    pub(crate) fn bytes(&self) -> u64 {
        match self {
            Self::Template(template) => template.bytes(),
            Self::Spares(bytes) => *bytes,
        }
    }

    pub(crate) fn template(&self) -> Option<&Template> {
        match self {
            Self::Template(template) => Some(template),
            Self::Spares(_) => None,
        }
    }

    pub(crate) fn into_template(self) -> Option<Template> {
        match self {
            Self::Template(template) => Some(template),
            Self::Spares(_) => None,
        }
    }
}

/// A worker and its pipes.
pub(crate) struct Staff {
    pub(crate) worker: Standing,
    pub(crate) pipes: Pipes,
}

impl Staff {
    /// Brings a held worker back to its ready point; with the template that it was forked
    /// from, if it was.
    pub(crate) fn rewind(
        &mut self,
        engine: &mut Engine,
        template: Option<&Template>,
        holding: Holding,
    ) -> Result<Rewound, Refused> {
        match (&mut self.worker, template) {
            (Standing::InPlace(worker), _) => engine.rewind_in_place(worker, holding),
            (Standing::Forked(worker, _), Some(template)) => {
                engine.rewind(template, worker, holding)
            }
            (Standing::Forked(..), None) => {
                unreachable!("a worker of a template that retired is not rewound")
            }
        }
    }
}

/// A runtime that boots where it will be a worker.
pub(crate) struct Candidate {
    pub(crate) starting: Starting,
    pub(crate) pipes: Pipes,
    /// What it printed until now.
    printed: Vec<(Stream, Line)>,
}

/// What a candidate said.
pub(crate) enum Word {
    /// Not all of it is there.
    NotYet,
    /// It is ready, and this is what it is.
    Ready(Runtime),
    /// It will not be, because of this.
    Raised(Exception),
    /// It will not be, and its word is not understood.
    Failed(String),
    /// It ended; if its launcher knew why, the engine was told.
    Ended,
}

impl Candidate {
    pub(crate) fn new(starting: Starting, pipes: Pipes) -> Self {
        Self {
            starting,
            pipes,
            printed: Vec::new(),
        }
    }

    /// Reads what it prints, which would stand still otherwise.
    pub(crate) fn listen(&mut self) {
        self.pipes.read_logs(&mut self.printed);
    }

    /// Hears whether it is ready.
    pub(crate) fn hear(&mut self) -> Word {
        let unclear = |error: &dyn std::fmt::Display| Word::Failed(error.to_string());
        let word =
            match self.pipes.receive() {
                Ok(None) => return Word::NotYet,
                Ok(Some((Kind::Ready, payload))) => serde_json::from_slice(&payload)
                    .map_or_else(|error| unclear(&error), Word::Ready),
                Ok(Some((Kind::Exception, payload))) => serde_json::from_slice(&payload)
                    .map_or_else(|error| unclear(&error), Word::Raised),
                Ok(Some(_)) => unclear(&"it sent something else than that it is ready"),
                Err(BadFrame::Closed) => Word::Ended,
                Err(error) => unclear(&error),
            };
        if matches!(word, Word::Raised(_) | Word::Failed(_) | Word::Ended) {
            self.tell_logs();
        }
        if let Word::Ready(_) = word {
            // None of it is a tenant's.
            self.listen();
            self.pipes.end_lines(&mut self.printed);
        }
        word
    }

    /// What it printed until it was ready.
    pub(crate) fn take_printed(&mut self) -> Vec<(Stream, Line)> {
        std::mem::take(&mut self.printed)
    }

    /// What it printed on the way says more than its end.
    fn tell_logs(&mut self) {
        self.listen();
        self.pipes.end_lines(&mut self.printed);
        for (_, line) in self.printed.drain(..) {
            eprintln!("refunction-supervisor: the runtime said: {}", line.text);
        }
    }
}
