//! Runs a case: tenant A changes something, the container is restored, tenant B
//! looks, and so does this host.

use std::sync::{Mutex, PoisonError};

use refunction_tests::process::Handle;
use serde_json::{Value, json};

use crate::case::{Case, Proof, Way};
use crate::container::Container;
use crate::outside::{self, View};

/// How long a call may take; enough for a machine that does everything at once.
const PATIENCE_MS: u64 = 30_000;

/// How long a call may take that is to end the worker.
const SHORT_MS: u64 = 1_500;

/// How one restore is to go.
#[derive(Debug, Clone, Copy)]
enum Expected {
    Way(Way),
    /// A refork, for no reason but that every restore is one.
    Refork,
}

/// A container that cases share, one after the other.
pub struct Mode {
    pub name: &'static str,
    /// True if every restore is a refork, whatever was done.
    pub always_reforks: bool,
    pub is_by_hand: bool,
    pub start: fn() -> Box<dyn Container>,
    running: Mutex<Option<Running>>,
}

struct Running {
    container: Box<dyn Container>,
    /// Of a worker that has served one function and was put back.
    clean: View,
    supervisor: Handle,
    template: Handle,
}

impl Mode {
    pub const fn new(
        name: &'static str,
        always_reforks: bool,
        is_by_hand: bool,
        start: fn() -> Box<dyn Container>,
    ) -> Self {
        Self {
            name,
            always_reforks,
            is_by_hand,
            start,
            running: Mutex::new(None),
        }
    }

    /// Runs one case; what went wrong, if anything did.
    pub fn run(&self, case: &Case) -> Result<(), String> {
        // A case that failed took its container with it.
        let mut shared = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let mut running = match shared.take() {
            Some(running) => running,
            None => Running::start(self)?,
        };
        let expected = match case.way {
            _ if self.always_reforks => Expected::Refork,
            Way::Refork(_) if case.refused_by_profile && !self.is_by_hand => {
                Expected::Way(Way::Rewind)
            }
            way => Expected::Way(way),
        };
        let outcome = running.run(case, expected);
        let hole = case.hole.filter(|_| !self.always_reforks);
        if outcome.is_ok() {
            *shared = Some(running);
        }
        match (outcome, hole) {
            (outcome, None) => outcome,
            (Err(what), Some(hole)) if what.contains(hole.shows) => Ok(()),
            (Err(what), Some(hole)) => Err(format!(
                "a known hole ({}), but it shows otherwise than by {:?}: {what}",
                hole.why, hole.shows
            )),
            (Ok(()), Some(hole)) => Err(format!(
                "this is listed as a known hole ({}), and is none any more",
                hole.why
            )),
        }
    }

    /// Ends the container, if a case had started one.
    pub fn end(&self) {
        let running = self
            .running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(running) = running {
            running.container.end();
        }
    }
}

impl Running {
    fn start(mode: &Mode) -> Result<Self, String> {
        let mut container = (mode.start)();
        // What every function leaves in a worker that has not served any.
        container.load("def main(args): return args\n")?;
        call(&mut *container, &Value::Null)?;
        container.restore();
        let handle = |pid: Option<u32>| {
            pid.and_then(Handle::open)
                .ok_or("it has no supervisor or no template")
        };
        Ok(Self {
            clean: outside::view(container.worker()?, container.uid())?,
            supervisor: handle(Some(container.supervisor()))?,
            template: handle(container.template())?,
            container,
        })
    }

    fn run(&mut self, case: &Case, expected: Expected) -> Result<(), String> {
        let tag = format!("secret-{}", self.container.uid());
        let source = case.source(&tag);
        match case.proof {
            Proof::Look(_) => self.change_and_look(&source, expected),
            Proof::Answers(answer) => self.try_attempt(&source, answer, expected),
            Proof::Ends(kind, _) => self.end_and_look(&source, kind),
        }
    }

    fn try_attempt(
        &mut self,
        source: &str,
        answer: &str,
        expected: Expected,
    ) -> Result<(), String> {
        let answer: Value =
            serde_json::from_str(answer).map_err(|error| format!("{answer}: {error}"))?;
        let before = outside::identity(self.container.worker()?)?;
        self.container.load(source)?;
        let answers = call(&mut *self.container, &json!("attempt"))?;
        self.restore(expected, &before)?;
        if answers == answer {
            Ok(())
        } else {
            Err(format!("answered {answers}, not {answer}"))
        }
    }

    fn change_and_look(&mut self, source: &str, expected: Expected) -> Result<(), String> {
        let container = &mut *self.container;
        container.load(source)?;
        let clean = call(container, &json!({"hint": null}))?;
        // From the start again, so that the second tenant's way is the first one's.
        container.restore();
        let before = outside::identity(container.worker()?)?;
        container.load(source)?;
        let told = json!({ "hint": call(container, &json!("change"))? });
        let changed = call(container, &told)?;
        if changed == clean {
            return Err(format!("the look sees no change: {clean}"));
        }
        self.restore(expected, &before)?;
        self.container.load(source)?;
        let after = call(&mut *self.container, &told)?;
        if after != clean {
            return Err(format!("tenant B saw {after}, not {clean}"));
        }
        self.container.restore();
        Ok(())
    }

    fn end_and_look(&mut self, source: &str, kind: &str) -> Result<(), String> {
        let container = &mut *self.container;
        container.load(source)?;
        let clean = call(container, &json!({"hint": null}))?;
        container.restore();
        container.load(source)?;
        match container.call(&json!("change"), SHORT_MS) {
            Ok(value) => return Err(format!("the worker lives, and answered {value}")),
            Err(failure) if failure.kind != kind => {
                return Err(format!("expected {kind}, got {}", failure.text));
            }
            Err(_) => {}
        }
        container.restore();
        self.look_from_outside()?;
        let container = &mut *self.container;
        container.load(source)?;
        let after = call(container, &json!({"hint": null}))?;
        if after != clean {
            return Err(format!("tenant B saw {after}, not {clean}"));
        }
        container.restore();
        Ok(())
    }

    /// Restores, and sees that it went the expected way and left nothing.
    fn restore(&mut self, expected: Expected, before: &View) -> Result<(), String> {
        let restored = self.container.restore();
        let (method, rows): (_, &[&str]) = match expected {
            Expected::Refork => ("refork", &[]),
            Expected::Way(Way::Either(rows)) if restored.method == "refork" => ("refork", rows),
            Expected::Way(Way::Rewind | Way::Either(_)) => ("rewind", &[]),
            Expected::Way(Way::Refork(rows)) => ("refork", rows),
        };
        let mut got: Vec<&str> = restored.rows.iter().map(String::as_str).collect();
        got.sort_unstable();
        got.dedup();
        // A refork for another reason as well is not what is expected, either.
        if restored.method != method || got != rows {
            return Err(format!(
                "expected {method} {rows:?}, got {} {}",
                restored.method, restored.report["taints"]
            ));
        }
        self.look_from_outside()?;
        let is_same = outside::identity(self.container.worker()?)? == *before;
        if is_same == (method == "rewind") {
            Ok(())
        } else {
            Err(format!("a {method}, but is it the same worker? {is_same}"))
        }
    }

    fn look_from_outside(&self) -> Result<(), String> {
        for (name, handle) in [
            ("supervisor", &self.supervisor),
            ("template", &self.template),
        ] {
            if !handle.is_alive() {
                return Err(format!("the {name} has ended"));
            }
        }
        let now = outside::view(self.container.worker()?, self.container.uid())?;
        let differences = outside::differences(&self.clean, &now);
        if differences.is_empty() {
            Ok(())
        } else {
            Err(format!("seen from outside: {}", differences.join("; ")))
        }
    }
}

fn call(container: &mut dyn Container, data: &Value) -> Result<Value, String> {
    container
        .call(data, PATIENCE_MS)
        .map_err(|failure| format!("{data} failed: {}", failure.text))
}
