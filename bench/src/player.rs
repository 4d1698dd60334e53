//! A stage in a process of its own. An engine is alone in its process, whose children are all
//! its own; what takes turns with others is played by one process each. It is told what to do
//! many times in a row, and what it measures holds nothing of the telling.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::Duration;

use refunction_protocol::Function;
use refunction_snapshot::{Scan, block_sigchld};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Failure;
use crate::floor::Floor;
use crate::runtime::Runtime;
use crate::setting::Setting;
use crate::stage::Stage;

/// Starts this part.
pub const FLAG: &str = "--as-player";

/// What it is told, a line each; so is what it answers.
#[derive(Debug, Serialize, Deserialize)]
enum Order {
    Set(Box<Function>),
    Give(Value),
    Load,
    Call(usize),
    Turn { times: usize, warm: usize },
    Refork(usize),
    Floor(usize),
}

/// One tenant's turn.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Turn {
    /// Loading the function.
    pub load: Duration,
    /// The first call.
    pub first: Duration,
    /// Each further call.
    pub warm: Vec<Duration>,
    /// The restore.
    pub rewind: Duration,
    /// All of it.
    pub whole: Duration,
}

/// What a worker is like.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Nature {
    /// Its mappings.
    pub mappings: usize,
    /// Its threads.
    pub threads: usize,
    /// Bytes in the snapshot.
    pub bytes: u64,
}

pub(crate) fn play(runtime: Runtime) -> Result<(), Failure> {
    block_sigchld()?;
    let mut stage = None;
    let mut floor = None;
    let mut answers = std::io::stdout().lock();
    for order in std::io::stdin().lock().lines() {
        let order = serde_json::from_str(&order?)?;
        let answer = obey(order, runtime, &mut stage, &mut floor).map_err(|it| it.to_string());
        serde_json::to_writer(&mut answers, &answer)?;
        answers.write_all(b"\n")?;
        answers.flush()?;
    }
    match stage {
        Some(stage) => stage.strike(),
        None => Ok(()),
    }
}

fn obey(
    order: Order,
    runtime: Runtime,
    place: &mut Option<Stage>,
    floor: &mut Option<Floor>,
) -> Result<Value, Failure> {
    if let Order::Set(function) = order {
        let mut setting = Setting::no_op(runtime)?;
        setting.function = *function;
        let stage = place.insert(Stage::with(Scan::Auto, setting)?);
        let worker = stage.worker().ok_or("there is no worker")?;
        let maps = std::fs::read_to_string(format!("/proc/{worker}/maps"))?;
        return Ok(serde_json::to_value(Nature {
            mappings: maps.lines().count(),
            threads: stage.threads(),
            bytes: stage.image_bytes(),
        })?);
    }
    let stage = place.as_mut().ok_or("nothing was set")?;
    Ok(match order {
        Order::Set(_) => return Err("it is set".into()),
        Order::Give(argument) => {
            stage.give(&argument)?;
            // Another argument, other pages.
            *floor = None;
            Value::Null
        }
        Order::Load => serde_json::to_value(stage.load()?)?,
        Order::Call(times) => in_a_row(times, || stage.call())?,
        Order::Turn { times, warm } => in_a_row(times, || {
            let turn = stage.turn(warm)?;
            Ok(Turn {
                load: turn.load,
                first: turn.first,
                warm: turn.warm,
                rewind: turn.rewind,
                whole: turn.whole,
            })
        })?,
        Order::Refork(times) => in_a_row(times, || {
            let refork = stage.refork()?;
            Ok(refork.kill + refork.fork)
        })?,
        Order::Floor(times) => {
            if floor.is_none() {
                *floor = Some(Floor::of(stage)?);
            }
            let floor = floor.as_mut().ok_or("there is no floor")?;
            in_a_row(times, || {
                stage.turn(0)?;
                Ok(floor.measure()?.whole())
            })?
        }
    })
}

fn in_a_row<T: Serialize>(
    times: usize,
    step: impl FnMut() -> Result<T, Failure>,
) -> Result<Value, Failure> {
    let mut step = step;
    let all = (0..times).map(|_| step()).collect::<Result<Vec<_>, _>>()?;
    Ok(serde_json::to_value(all)?)
}

/// A running one. Dropped, it strikes its stage.
pub struct Player {
    process: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    /// What its worker is like.
    pub nature: Nature,
}

impl Player {
    /// Has it set its stage.
    ///
    /// # Errors
    /// It cannot.
    pub fn start(setting: &Setting) -> Result<Self, Failure> {
        let mut process = (setting.program(FLAG)?)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let orders = process.stdin.take();
        let answers = process.stdout.take().ok_or("the player has no pipe")?;
        let mut player = Self {
            process,
            orders,
            answers: BufReader::new(answers),
            nature: Nature {
                mappings: 0,
                threads: 0,
                bytes: 0,
            },
        };
        player.nature = player.tell(&Order::Set(Box::new(setting.function.clone())))?;
        Ok(player)
    }

    /// What calls give from now on.
    ///
    /// # Errors
    /// As all that follow: the worker did not do as it should.
    pub fn give(&mut self, argument: &Value) -> Result<(), Failure> {
        self.tell(&Order::Give(argument.clone()))
    }

    /// Loads the function.
    ///
    /// # Errors
    /// See [`give`](Self::give).
    pub fn load(&mut self) -> Result<Duration, Failure> {
        self.tell(&Order::Load)
    }

    /// Calls the function, which is loaded.
    ///
    /// # Errors
    /// See [`give`](Self::give).
    pub fn calls(&mut self, times: usize) -> Result<Vec<Duration>, Failure> {
        self.tell(&Order::Call(times))
    }

    /// Turns, each with so many further calls.
    ///
    /// # Errors
    /// See [`give`](Self::give).
    pub fn turns(&mut self, times: usize, warm: usize) -> Result<Vec<Turn>, Failure> {
        self.tell(&Order::Turn { times, warm })
    }

    /// Kills the worker and has another come.
    ///
    /// # Errors
    /// See [`give`](Self::give).
    pub fn reforks(&mut self, times: usize) -> Result<Vec<Duration>, Failure> {
        self.tell(&Order::Refork(times))
    }

    /// What no restore of it can beat, each time after a turn.
    ///
    /// # Errors
    /// See [`give`](Self::give).
    pub fn floors(&mut self, times: usize) -> Result<Vec<Duration>, Failure> {
        self.tell(&Order::Floor(times))
    }

    fn tell<T: DeserializeOwned>(&mut self, order: &Order) -> Result<T, Failure> {
        let orders = self.orders.as_mut().ok_or("the player was stopped")?;
        let mut line = serde_json::to_vec(order)?;
        line.push(b'\n');
        orders.write_all(&line)?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        if answer.is_empty() {
            return Err("the player ended".into());
        }
        let answer: Result<Value, String> = serde_json::from_str(&answer)?;
        Ok(serde_json::from_value(answer?)?)
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        // The end of its orders ends it.
        self.orders = None;
        let _ = self.process.wait();
    }
}
