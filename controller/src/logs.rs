//! What a container printed: a bounded ring of lines, and those who follow it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::watch;

/// Lines kept of one container.
const MAX_LINES: usize = 10_000;

/// Bytes kept of one container's lines.
const MAX_BYTES: usize = 1024 * 1024;

/// Bytes kept of one line. Supervisors cut lines shorter; this is for one that
/// does not.
const MAX_LINE_BYTES: usize = 64 * 1024;

/// Where a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The function's descriptor 1.
    Stdout,
    /// The function's descriptor 2.
    Stderr,
    /// The container's init itself, outside the control channel.
    Supervisor,
}

impl Source {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::Supervisor => "supervisor",
        }
    }
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// When it arrived, in milliseconds since the Unix epoch.
    pub unix_ms: i64,
    /// Where it came from.
    pub source: Source,
    /// The request during which it was printed.
    pub request: Option<String>,
    /// The line without its end.
    pub text: String,
    /// True if it, or lines after it, were cut at a limit.
    pub truncated: bool,
}

/// A piece of the ring.
#[derive(Debug)]
pub struct Batch {
    /// Lines between the reader's place and these that are gone.
    pub dropped: u64,
    /// The lines.
    pub lines: Vec<Line>,
    /// The place to read on from.
    pub next: u64,
}

/// The lines of one container.
#[derive(Debug)]
pub struct LogRing {
    ring: Mutex<Ring>,
    /// The number of the next line; None once no more come.
    end: watch::Sender<Option<u64>>,
    /// Who has the function's lines too.
    function: Mutex<Option<Arc<LogRing>>>,
}

/// Invariants: `bytes` is the sum over `lines`; the last line's number is `next - 1`.
#[derive(Debug)]
struct Ring {
    lines: VecDeque<Line>,
    bytes: usize,
    next: u64,
    max_lines: usize,
    max_bytes: usize,
}

impl Default for LogRing {
    fn default() -> Self {
        Self::with_bounds(MAX_LINES, MAX_BYTES)
    }
}

impl LogRing {
    /// Of so many lines and bytes.
    pub(crate) fn with_bounds(max_lines: usize, max_bytes: usize) -> Self {
        Self {
            ring: Mutex::new(Ring {
                lines: VecDeque::new(),
                bytes: 0,
                next: 0,
                max_lines,
                max_bytes,
            }),
            end: watch::Sender::new(Some(0)),
            function: Mutex::default(),
        }
    }

    /// What the function prints from now on goes to this one too: to be told before another is
    /// loaded, and when it is restored.
    pub(crate) fn copy_to(&self, function: Option<Arc<Self>>) {
        *self.function.lock().unwrap_or_else(PoisonError::into_inner) = function;
    }

    /// Keeps a line that arrived now, and lets go of the oldest if need be.
    pub fn push(
        &self,
        source: Source,
        request: Option<String>,
        mut text: String,
        mut truncated: bool,
    ) {
        if text.len() > MAX_LINE_BYTES {
            let whole = |end: &usize| text.is_char_boundary(*end);
            let end = (0..=MAX_LINE_BYTES).rev().find(whole).unwrap_or(0);
            text.truncate(end);
            truncated = true;
        }
        if source != Source::Supervisor {
            let function = self.function.lock().unwrap_or_else(PoisonError::into_inner);
            let copy_to = function.clone();
            drop(function);
            if let Some(copy) = copy_to {
                copy.push(source, request.clone(), text.clone(), truncated);
            }
        }
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        ring.bytes += text.len();
        ring.lines.push_back(Line {
            unix_ms: unix_ms(),
            source,
            request,
            text,
            truncated,
        });
        ring.next += 1;
        while ring.lines.len() > 1
            && (ring.lines.len() > ring.max_lines || ring.bytes > ring.max_bytes)
        {
            if let Some(line) = ring.lines.pop_front() {
                ring.bytes -= line.text.len();
            }
        }
        let next = ring.next;
        drop(ring);
        self.end.send_if_modified(|end| {
            let open = end.is_some();
            if open {
                *end = Some(next);
            }
            open
        });
    }

    /// What is kept from a place on; begin with 0.
    #[must_use]
    pub fn from(&self, place: u64) -> Batch {
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        let first = ring.next - ring.lines.len() as u64;
        let skip = usize::try_from(place.saturating_sub(first)).unwrap_or(usize::MAX);
        Batch {
            dropped: first.saturating_sub(place),
            lines: ring.lines.iter().skip(skip).cloned().collect(),
            next: ring.next,
        }
    }

    /// Waits until there is something from this place on; false if nothing comes
    /// any more.
    pub async fn more(&self, place: u64) -> bool {
        let mut end = self.end.subscribe();
        let reached = end
            .wait_for(|end| end.is_none_or(|next| next > place))
            .await
            .map(|end| *end);
        // The ring holds the sender, so the wait itself cannot fail.
        matches!(reached, Ok(Some(_))) || self.from(place).next > place
    }

    /// Ends the following: the container is gone.
    pub fn close(&self) {
        self.end.send_replace(None);
    }

    /// The last lines of the init's own, at most `count`.
    #[must_use]
    pub fn last_words(&self, count: usize) -> Vec<String> {
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        let mut words: Vec<_> = ring
            .lines
            .iter()
            .rev()
            .filter(|line| line.source == Source::Supervisor)
            .take(count)
            .map(|line| line.text.clone())
            .collect();
        words.reverse();
        words
    }
}

/// Now, in milliseconds since the Unix epoch.
#[must_use]
pub fn unix_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| {
            i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(batch: &Batch) -> Vec<&str> {
        batch.lines.iter().map(|line| line.text.as_str()).collect()
    }

    #[test]
    fn the_oldest_lines_go_and_their_number_is_told() {
        let logs = LogRing::with_bounds(3, 1000);
        for number in 0..5 {
            logs.push(Source::Stdout, None, number.to_string(), false);
        }
        let all = logs.from(0);
        assert_eq!((all.dropped, all.next), (2, 5));
        assert_eq!(texts(&all), ["2", "3", "4"]);
        let rest = logs.from(4);
        assert_eq!((rest.dropped, texts(&rest)), (0, vec!["4"]));
        assert!(logs.from(5).lines.is_empty());
    }

    #[test]
    fn bytes_are_bounded_too() {
        let logs = LogRing::with_bounds(100, 10);
        for _ in 0..4 {
            logs.push(Source::Stderr, None, "12345".into(), false);
        }
        assert_eq!(logs.from(0).lines.len(), 2);
        logs.push(Source::Stderr, None, "a long line".into(), false);
        assert_eq!(texts(&logs.from(0)), ["a long line"]);
    }

    #[test]
    fn an_endless_line_is_cut_between_characters() {
        let logs = LogRing::default();
        logs.push(Source::Stdout, None, "ä".repeat(MAX_LINE_BYTES), false);
        let line = logs.from(0).lines.remove(0);
        assert!(line.truncated && line.text.len() <= MAX_LINE_BYTES);
        assert!(line.text.chars().all(|c| c == 'ä'));
    }

    #[test]
    fn a_function_s_lines_are_copied_while_it_is_there() {
        let (container, function) = (LogRing::default(), Arc::new(LogRing::default()));
        let push = |text: &str| {
            container.push(Source::Stdout, Some("r".into()), text.into(), false);
        };
        push("before");
        container.copy_to(Some(Arc::clone(&function)));
        push("its own");
        container.push(Source::Supervisor, None, "init".into(), false);
        container.copy_to(None);
        push("after");
        assert_eq!(texts(&function.from(0)), ["its own"]);
        assert_eq!(function.from(0).lines[0].request.as_deref(), Some("r"));
        assert_eq!(container.from(0).lines.len(), 4);
    }

    #[tokio::test]
    async fn a_follower_sees_what_comes_and_the_end() {
        let logs = Arc::new(LogRing::default());
        let follower = tokio::spawn({
            let logs = Arc::clone(&logs);
            async move {
                let (mut place, mut seen) = (0, 0);
                while logs.more(place).await {
                    let batch = logs.from(place);
                    seen += batch.lines.len();
                    place = batch.next;
                }
                seen
            }
        });
        for _ in 0..10 {
            logs.push(Source::Stdout, None, "x".into(), false);
            tokio::task::yield_now().await;
        }
        logs.close();
        assert_eq!(follower.await.unwrap(), 10);
    }
}
