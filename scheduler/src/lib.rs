//! Which container of a node runs which call, and which containers come and go.
//!
//! Pure: no I/O, no clock, no thread, no chance. A driver feeds [`Scheduler::step`] with
//! [`Event`]s and the time, and carries out the [`Action`]s that it gets back. The same events
//! at the same times give the same actions, so that whatever went wrong on a node can be played
//! again, and a day of a node takes a second to simulate.
//!
//! ```
//! use refunction_scheduler::*;
//!
//! let mut scheduler = Scheduler::new(NodeSettings::default());
//! let now = Moment::from_micros(1);
//! let actions = scheduler.step(now, Event::PoolSet {
//!     pool: "python".into(),
//!     settings: PoolSettings::default(),
//! });
//! let [Action::Create { container, .. }] = actions[..] else { panic!() };
//! scheduler.step(now, Event::FunctionSet {
//!     function: "hello".into(),
//!     settings: FunctionSettings::new("python"),
//! });
//! scheduler.step(now, Event::Created { container });
//! let actions = scheduler.step(now, Event::Called(Call {
//!     id: CallId(1),
//!     function: "hello".into(),
//!     deadline: Moment::from_micros(30_000_000),
//! }));
//! assert!(matches!(actions[0], Action::Load { .. }));
//! let actions = scheduler.step(now, Event::Loaded { container });
//! assert!(matches!(actions[0], Action::Run { .. }));
//! ```
//!
//! # What is decided, and why
//!
//! **Late.** A call is bound to a container when it runs, not before. Loads, restores and
//! creations are begun for as many calls as wait, and whatever is ready first takes the call
//! that is next. So a call that is withdrawn costs nothing, and a container that dies under way
//! takes no call with it that had not begun.
//!
//! **By settling.** An event changes what is known (`handle.rs`); then the pools that it touched
//! are *settled* by the same steps in the same order (`choice.rs`, `room.rs`), until nothing
//! changes any more. The order of choice therefore stands in one place: a call runs in an idle
//! container that holds its function; else one at its snapshot takes the function; else an idle
//! one is put back, that first whose keep-warm time is over first; else one is made; else the
//! call waits, and is refused when it has waited for as long as it may.
//!
//! **A swap before a creation**, also where there is room and what is put back is still warm. It
//! costs that caller 1.3 ms, and the next of the function that was put back as much; a creation
//! costs 120 ms. So the keep-warm time is a wish: it decides who goes first, and when a
//! container is put back without anybody's need. Idle containers of one function are used
//! newest first, so that the superfluous ones grow old.
//!
//! **A creation before it is needed.** Where containers run short, the pool grows in the
//! background: one ahead of those in use ([`PoolSettings::spare`]), and more where the calls
//! that wait would do so for longer than [`PoolSettings::grow_after`], by their number and the
//! mean run. A creation for every short queue would be over after the queue.
//!
//! **A restore after an answer, never before it.** What ended a call goes on with the next of
//! its function, or rests, or is put back because the turn is another's.
//!
//! **Turns by time.** Each function has a *bill*: the container time that it was given, by its
//! weight, restores and loads included. Of the functions that wait, the smallest bill is served
//! first; who did not wait starts from what was last paid, so that nobody saves up or is held
//! to what he took when nobody else wanted it. A run is billed by its mean in advance, and
//! corrected by its end. A container goes on with its function for a batch beyond its turn:
//! eight times what a swap was seen to take, so that swaps cost at most a ninth.
//!
//! **Queues are bounded**, each and all together. Where all together are full, the function that
//! has most in them gives up its last call for one that has less.
//!
//! **Backing off.** Three faults (timeout, crash, out of memory, broken channel, code that does
//! not load), where each success takes back half, and a function is left alone for a second,
//! doubling to a minute; then one call at a time shows whether it is any better. Calls that were
//! under way together are one lesson. An exception is an answer. A taint is a slower restore,
//! and on the function's bill; only reforks that keep a whole container busy for long count as a
//! fault. A pool backs off from creations when they fail, or when its containers die or refuse
//! three times, until one loads a function; with no container at all, its calls are refused with
//! the cause.
//!
//! **Containers of one function.** A pool that [never reuses](Reuse::Never) removes where others
//! put back: at once where nothing is to be kept, and for a waiting call only where there is no
//! room for another container beside. Such a call does not wait to see whether it is worth it:
//! what others hold is of no use to it.
//!
//! **Room.** Limits count everything that is not yet removed. For waiting calls a full node
//! removes what other pools have above their minimum and do not use, the longest unused first;
//! where nothing is unused, the pool with more containers gives one up as it becomes free. It
//! takes two more than the other has, so that none goes to and fro; a pool without any is given
//! one after a second.
//!
//! **Cost.** A step does a bounded number of look-ups in ordered maps; only what concerns many
//! things (a deployment, a refusal of all that waits) touches many. Pools are gone through one
//! by one where room is short: there is one for each image.

#![forbid(unsafe_code)]

mod action;
mod average;
mod backoff;
mod choice;
mod container;
mod event;
mod function;
mod handle;
mod hint;
mod index;
mod moment;
mod name;
mod node;
mod pool;
mod queue;
mod room;
mod scheduler;
mod settings;
mod status;
mod timers;

pub use action::{Action, Busy, Refusal, Removal, Start};
pub use event::{Event, Fault, Found, Method, Outcome};
pub use moment::Moment;
pub use name::{CallId, Cause, ContainerId, FunctionName, PoolName};
pub use scheduler::Scheduler;
pub use settings::{Call, FunctionSettings, NodeSettings, PoolSettings, Reuse};
pub use status::{Activity, ContainerStatus, FunctionStatus, PoolStatus};
