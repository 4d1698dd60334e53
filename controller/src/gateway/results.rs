//! Outcomes of calls that nobody waits for, kept for a while.

use std::collections::{HashMap, HashSet, VecDeque};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::body::Body;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout_at};

use super::reply::Reply;

/// What is kept at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Calls under way and outcomes, together.
    pub most: usize,
    /// Bytes of all outcomes.
    pub most_bytes: usize,
    /// How long an outcome is kept.
    pub age: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            most: 1000,
            most_bytes: 64 * 1024 * 1024,
            age: Duration::from_secs(600),
        }
    }
}

/// Why a call is not begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// There is one of this id.
    Taken,
    /// As many are under way as may be.
    Full,
}

/// What is known of a call.
#[derive(Debug)]
pub(super) enum Known {
    /// It goes on.
    Pending,
    /// What it was answered with.
    Done(Arc<Reply>),
}

/// The results, and the ids of all calls under way.
#[derive(Debug, Clone)]
pub(super) struct Results {
    bounds: Bounds,
    held: Arc<Mutex<Held>>,
}

#[derive(Debug, Default)]
struct Held {
    /// Of calls under way, whether somebody waits for them or not.
    ids: HashSet<String>,
    /// True while there is none.
    idle: watch::Sender<bool>,
    results: HashMap<String, Entry>,
    /// Those with an outcome, the oldest first.
    done: VecDeque<String>,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    outcome: watch::Sender<Option<Arc<Reply>>>,
    /// The one that has the call, and then waits until the outcome has had its time.
    task: Option<AbortHandle>,
}

fn size_of(reply: &Reply) -> usize {
    reply
        .body()
        .size_hint()
        .exact()
        .and_then(|bytes| usize::try_from(bytes).ok())
        .unwrap_or(0)
}

impl Held {
    /// To whoever waits for it: mostly nobody does, and it changes twice with each call.
    fn say_if_idle(&self) {
        if self.idle.receiver_count() > 0 {
            self.idle.send_replace(self.ids.is_empty());
        }
    }

    /// Forgets a result. What has its call is to be aborted once the lock is free: what that
    /// drops takes the lock.
    fn forget(&mut self, id: &str) -> Option<AbortHandle> {
        let entry = self.results.remove(id)?;
        let outcome = entry.outcome.borrow().clone();
        if let Some(reply) = outcome {
            self.bytes -= size_of(&reply);
            self.done.retain(|done| done != id);
        }
        entry.task
    }
}

/// An id of a call under way, until it is dropped.
#[derive(Debug)]
pub(super) struct Ticket {
    id: String,
    held: Arc<Mutex<Held>>,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut held = lock(&self.held);
        held.ids.remove(&self.id);
        held.say_if_idle();
    }
}

fn lock(held: &Mutex<Held>) -> MutexGuard<'_, Held> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

fn abort(tasks: impl IntoIterator<Item = AbortHandle>) {
    tasks.into_iter().for_each(|task| task.abort());
}

impl Results {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            held: Arc::default(),
        }
    }

    /// Takes an id for a call; None if there is one of that id.
    pub(super) fn take(&self, id: &str) -> Option<Ticket> {
        let mut held = lock(&self.held);
        let is_free = held.ids.insert(id.to_owned());
        held.say_if_idle();
        is_free.then(|| Ticket {
            id: id.to_owned(),
            held: Arc::clone(&self.held),
        })
    }

    /// Has a call run by itself, and keeps what becomes of it under the ticket's id.
    pub(super) fn begin(
        &self,
        ticket: Ticket,
        call: impl Future<Output = Reply> + Send + 'static,
    ) -> Result<(), Refused> {
        let mut held = lock(&self.held);
        let id = ticket.id.clone();
        let refused = if held.results.contains_key(&id) {
            Some(Refused::Taken)
        } else if held.results.len() - held.done.len() >= self.bounds.most {
            Some(Refused::Full)
        } else {
            None
        };
        if let Some(refused) = refused {
            // Its drop takes the lock.
            drop(held);
            drop(ticket);
            return Err(refused);
        }
        let is_full = held.results.len() >= self.bounds.most;
        let oldest = held.done.front().filter(|_| is_full).cloned();
        let oldest = oldest.and_then(|id| held.forget(&id));
        let entry = Entry {
            outcome: watch::Sender::new(None),
            task: None,
        };
        held.results.insert(id.clone(), entry);
        // Under the lock: it cannot be over before its entry knows it.
        let task = tokio::spawn({
            let results = self.clone();
            let id = id.clone();
            async move {
                let reply = call.await;
                drop(ticket);
                results.keep(&id, reply);
                sleep(results.bounds.age).await;
                let this = lock(&results.held).forget(&id);
                drop(this);
            }
        });
        if let Some(entry) = held.results.get_mut(&id) {
            entry.task = Some(task.abort_handle());
        }
        drop(held);
        abort(oldest);
        Ok(())
    }

    fn keep(&self, id: &str, reply: Reply) {
        let mut held = lock(&self.held);
        if !held.results.contains_key(id) {
            return;
        }
        let bytes = size_of(&reply);
        let mut gone = Vec::new();
        // One that is larger than all may be is kept by itself: somebody asked for it.
        while held.bytes + bytes > self.bounds.most_bytes
            && let Some(oldest) = held.done.front().cloned()
        {
            gone.extend(held.forget(&oldest));
        }
        held.bytes += bytes;
        held.done.push_back(id.to_owned());
        if let Some(entry) = held.results.get(id) {
            entry.outcome.send_replace(Some(Arc::new(reply)));
        }
        drop(held);
        abort(gone);
    }

    /// What is known of a call, waiting so long for its outcome; None if there is none.
    pub(super) async fn get(&self, id: &str, patience: Duration) -> Option<Known> {
        let until = Instant::now() + patience;
        let mut outcome = lock(&self.held).results.get(id)?.outcome.subscribe();
        match timeout_at(until, outcome.wait_for(Option::is_some)).await {
            Ok(Ok(reply)) => reply.clone().map(Known::Done),
            // It was deleted meanwhile.
            Ok(Err(_)) => None,
            Err(_) => Some(Known::Pending),
        }
    }

    /// Forgets a call, and gives it up if it goes on; false if there is none.
    pub(super) fn forget(&self, id: &str) -> bool {
        let task = lock(&self.held).forget(id);
        let was_there = task.is_some();
        abort(task);
        was_there
    }

    /// Gives up all of them.
    pub(super) fn clear(&self) {
        let mut held = lock(&self.held);
        let ids: Vec<_> = held.results.keys().cloned().collect();
        let tasks: Vec<_> = ids.iter().filter_map(|id| held.forget(id)).collect();
        drop(held);
        abort(tasks);
    }

    /// Waits until no call is under way, whether somebody waits for it or not.
    pub(super) async fn settle(&self) {
        let mut idle = {
            let held = lock(&self.held);
            let idle = held.idle.subscribe();
            held.say_if_idle();
            idle
        };
        // What could fail holds the sender.
        let _ = idle.wait_for(|idle| *idle).await;
    }
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;
    use tokio::sync::oneshot;
    use tokio::time::timeout;

    use super::super::reply;
    use super::*;

    const NOW: Duration = Duration::ZERO;

    fn results(most: usize, most_bytes: usize) -> Results {
        Results::new(Bounds {
            most,
            most_bytes,
            age: Duration::from_secs(60),
        })
    }

    fn done(size: usize) -> Reply {
        reply::of_type(StatusCode::OK, "text/plain", "x".repeat(size))
    }

    async fn finish(results: &Results, id: &str, size: usize) {
        let ticket = results.take(id).unwrap();
        results.begin(ticket, async move { done(size) }).unwrap();
        let known = results.get(id, Duration::from_secs(1)).await;
        assert!(matches!(known, Some(Known::Done(_))), "{known:?}");
    }

    async fn is_there(results: &Results, id: &str) -> bool {
        results.get(id, NOW).await.is_some()
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_outcome_goes_and_calls_under_way_stay() {
        let results = results(3, 1000);
        let (sender, receiver) = oneshot::channel::<()>();
        let going_on = async move {
            let _ = receiver.await;
            done(1)
        };
        let ticket = results.take("going on").unwrap();
        results.begin(ticket, going_on).unwrap();
        for id in ["a", "b", "c"] {
            finish(&results, id, 1).await;
        }
        assert!(!is_there(&results, "a").await);
        assert!(is_there(&results, "b").await && is_there(&results, "c").await);
        let pending = results.get("going on", NOW).await;
        assert!(matches!(pending, Some(Known::Pending)));
        drop(sender);
        let known = results.get("going on", Duration::from_secs(1)).await;
        assert!(matches!(known, Some(Known::Done(_))));
        results.settle().await;
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_are_bounded_too() {
        let results = results(10, 100);
        for id in ["a", "b", "c"] {
            finish(&results, id, 40).await;
        }
        assert!(!is_there(&results, "a").await && is_there(&results, "b").await);
        finish(&results, "large", 1000).await;
        assert!(is_there(&results, "large").await);
        assert!(!is_there(&results, "c").await);
        assert!(results.forget("large"));
        assert_eq!(lock(&results.held).bytes, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn an_outcome_has_its_time() {
        let results = results(10, 100);
        finish(&results, "a", 1).await;
        sleep(Duration::from_secs(59)).await;
        assert!(is_there(&results, "a").await);
        sleep(Duration::from_secs(2)).await;
        assert!(!is_there(&results, "a").await);
        let held = lock(&results.held);
        assert!(held.results.is_empty() && held.done.is_empty() && held.bytes == 0);
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_are_under_way_than_may_be_and_each_has_its_id() {
        let results = results(2, 100);
        for id in ["a", "b"] {
            let ticket = results.take(id).unwrap();
            results.begin(ticket, std::future::pending()).unwrap();
        }
        assert!(results.take("a").is_none());
        let ticket = results.take("c").unwrap();
        assert_eq!(
            results.begin(ticket, std::future::pending()),
            Err(Refused::Full)
        );
        // What was refused holds nothing.
        assert!(results.take("c").is_some());
        // Who waits for a call that is given up is told.
        let waiting = tokio::spawn({
            let results = results.clone();
            async move { results.get("a", Duration::from_secs(3600)).await.is_none() }
        });
        tokio::task::yield_now().await;
        assert!(results.forget("a") && !results.forget("a"));
        assert!(waiting.await.unwrap());
        // The aborted call lets go of its id.
        tokio::task::yield_now().await;
        finish(&results, "a", 1).await;
        let ticket = results.take("a").unwrap();
        assert_eq!(
            results.begin(ticket, async { done(1) }),
            Err(Refused::Taken)
        );
        let settled = results.settle();
        assert!(timeout(Duration::from_secs(9), settled).await.is_err());
        results.clear();
        results.settle().await;
    }
}
