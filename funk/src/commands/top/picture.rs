//! What there is to see at one look.

use std::cmp::Reverse;
use std::io::{self, Write};

use refunction_protocol::host as api;
use serde_json::{Value, json};

use super::counts::{Calls, Took};
use crate::display::{bytes, duration_us, table};

/// Everything, and what was counted since an earlier look, or since the node began.
#[derive(Debug)]
pub(super) struct Picture<'a> {
    view: &'a api::NodeReply,
    /// What was counted, over so many microseconds.
    over_us: u64,
    calls: Calls,
    /// By method.
    restores: Vec<(&'a str, Took)>,
    functions: Vec<(&'a api::NodeFunction, Calls)>,
}

impl<'a> Picture<'a> {
    pub(super) fn new(view: &'a api::NodeReply, before: Option<&'a api::NodeReply>) -> Self {
        let bounds = &view.bounds_us;
        // Another daemon has begun to count anew.
        let before = before.filter(|it| it.up_us < view.up_us && it.bounds_us == *bounds);
        let none = api::CallCounts::default();
        let all = |it: &'a api::NodeReply| it.calls.as_ref();
        let restores = view.restores.iter().map(|now| {
            let before =
                before.and_then(|it| it.restores.iter().find(|it| it.method == now.method));
            let earlier = before.map_or(&[][..], |it| it.took.as_slice());
            let took = Took::since(&now.took, earlier, bounds);
            (now.method.as_str(), took)
        });
        let functions = view.functions.iter().map(|now| {
            let before = before.and_then(|it| it.functions.iter().find(|it| it.name == now.name));
            let earlier = before.and_then(|it| it.calls.as_ref());
            let calls = now.calls.as_ref().unwrap_or(&none);
            (now, Calls::since(calls, earlier, bounds))
        });
        let mut functions: Vec<_> = functions.collect();
        functions.sort_by_key(|(it, calls)| {
            let busy = u64::from(it.running) + it.waiting;
            (Reverse(calls.ended() + calls.refused()), Reverse(busy))
        });
        Self {
            over_us: view.up_us - before.map_or(0, |it| it.up_us),
            calls: Calls::since(all(view).unwrap_or(&none), before.and_then(all), bounds),
            restores: restores.collect(),
            functions,
            view,
        }
    }

    /// So many each second.
    fn rate(&self, count: u64) -> String {
        #[allow(clippy::cast_precision_loss)]
        let rate = count as f64 * 1e6 / self.over_us.max(1) as f64;
        let decimals = usize::from(rate < 99.95);
        format!("{rate:.decimals$}/s")
    }

    pub(super) fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let mut text = Vec::new();
        self.head(&mut text)?;
        self.pools(&mut text)?;
        self.containers(&mut text)?;
        self.called(&mut text)?;
        // What a tenant said of its failure must not draw on the screen.
        let text = String::from_utf8_lossy(&text);
        let printable = |c: char| if c.is_control() && c != '\n' { ' ' } else { c };
        to.write_all(text.chars().map(printable).collect::<String>().as_bytes())
    }

    fn head(&self, to: &mut impl Write) -> io::Result<()> {
        let view = self.view;
        let limit = match view.memory_limit_bytes {
            u64::MAX => String::new(),
            limit => format!(" of {}", bytes(limit)),
        };
        let draining = if view.draining { "   draining" } else { "" };
        writeln!(
            to,
            "node      up {}   {} of {} containers   {}{limit}   {} functions   {} waiting{draining}",
            duration_us(view.up_us),
            view.containers.len(),
            view.container_limit,
            bytes(view.memory_bytes),
            view.deployed,
            view.waiting,
        )?;
        let calls = &self.calls;
        writeln!(
            to,
            "calls     {}   failed {}   refused {}   waited {}   ran {}",
            self.rate(calls.ended()),
            self.rate(calls.failed()),
            self.rate(calls.refused()),
            percentiles(&calls.waited),
            percentiles(&calls.ran),
        )?;
        let restores: u64 = self.restores.iter().map(|(_, took)| took.count()).sum();
        write!(to, "restores  {}", self.rate(restores))?;
        for (method, took) in &self.restores {
            let rate = self.rate(took.count());
            write!(to, "   {method} {rate} {}", percentiles(took))?;
        }
        writeln!(to, "\n          over {}\n", duration_us(self.over_us))
    }

    fn pools(&self, to: &mut impl Write) -> io::Result<()> {
        let rows = self.view.pools.iter().map(|it| {
            let count = |doing: &str| it.containers.get(doing).copied().unwrap_or(0).to_string();
            [
                it.name.clone(),
                or_dash(&it.runtime),
                format!("{}-{}", it.minimum, it.maximum),
                it.waiting.to_string(),
                count("creating"),
                count("ready"),
                count("loading"),
                count("idle"),
                count("running"),
                count("restoring"),
                count("removing"),
                bytes(it.memory_bytes),
            ]
        });
        let headings = [
            "POOL",
            "RUNTIME",
            "SIZE",
            "WAITING",
            "CREATING",
            "READY",
            "LOADING",
            "IDLE",
            "RUNNING",
            "RESTORING",
            "REMOVING",
            "MEMORY",
        ];
        table(to, headings, &rows.collect::<Vec<_>>())?;
        writeln!(to)
    }

    fn containers(&self, to: &mut impl Write) -> io::Result<()> {
        let rows = self.view.containers.iter().map(|it| {
            [
                or_dash(&it.id),
                it.pool.clone(),
                it.activity.clone(),
                or_dash(&it.function),
                duration_us(it.since_us),
                it.requests.to_string(),
                bytes(it.memory_bytes),
            ]
        });
        let headings = [
            "CONTAINER",
            "POOL",
            "DOES",
            "FUNCTION",
            "SINCE",
            "REQUESTS",
            "MEMORY",
        ];
        table(to, headings, &rows.collect::<Vec<_>>())?;
        writeln!(to)
    }

    fn called(&self, to: &mut impl Write) -> io::Result<()> {
        let rows = self.functions.iter().map(|(it, calls)| {
            [
                it.name.clone(),
                or_dash(&it.pool),
                it.waiting.to_string(),
                it.running.to_string(),
                self.rate(calls.ended()),
                self.rate(calls.failed()),
                self.rate(calls.refused()),
                calls.waited.shown(50),
                calls.waited.shown(99),
                calls.ran.shown(50),
                calls.ran.shown(99),
            ]
        });
        let headings = [
            "FUNCTION", "POOL", "WAITING", "RUNNING", "CALLS", "FAILED", "REFUSED", "WAIT P50",
            "P99", "RUN P50", "P99",
        ];
        table(to, headings, &rows.collect::<Vec<_>>())?;
        for (it, _) in &self.functions {
            if let Some(off) = &it.backing_off {
                let (name, cause) = (&it.name, off.cause.lines().next().unwrap_or_default());
                let time = duration_us(off.for_us);
                writeln!(to, "{name} is left alone for {time}: {cause}")?;
            }
        }
        Ok(())
    }

    pub(super) fn document(&self) -> Value {
        let view = self.view;
        let some = |text: &String| Some(text.clone()).filter(|it| !it.is_empty());
        let restores: serde_json::Map<_, _> = self
            .restores
            .iter()
            .map(|(method, took)| ((*method).to_owned(), took.document()))
            .collect();
        let containers = view.containers.iter().map(|it| {
            json!({
                "id": some(&it.id),
                "pool": it.pool,
                "activity": it.activity,
                "function": some(&it.function),
                "since_us": it.since_us,
                "memory_bytes": it.memory_bytes,
                "requests": it.requests,
            })
        });
        let pools = view.pools.iter().map(|it| {
            json!({
                "name": it.name,
                "runtime": some(&it.runtime),
                "minimum": it.minimum,
                "maximum": it.maximum,
                "memory_bytes": it.memory_bytes,
                "waiting": it.waiting,
                "containers": it.containers,
            })
        });
        let functions = self.functions.iter().map(|(it, calls)| {
            json!({
                "name": it.name,
                "pool": some(&it.pool),
                "waiting": it.waiting,
                "running": it.running,
                "backing_off": it.backing_off.as_ref().map(|off| {
                    json!({"for_us": off.for_us, "cause": off.cause})
                }),
                "calls": it.calls.as_ref().map(|_| calls.document()),
            })
        });
        json!({
            "up_us": view.up_us,
            "draining": view.draining,
            "waiting": view.waiting,
            "deployed": view.deployed,
            "memory_bytes": view.memory_bytes,
            "memory_limit_bytes": Some(view.memory_limit_bytes).filter(|it| *it < u64::MAX),
            "container_limit": view.container_limit,
            "calls": self.calls.document(),
            "restores": restores,
            "containers": containers.collect::<Vec<_>>(),
            "pools": pools.collect::<Vec<_>>(),
            "functions": functions.collect::<Vec<_>>(),
        })
    }
}

fn percentiles(took: &Took) -> String {
    format!("p50 {} p99 {}", took.shown(50), took.shown(99))
}

fn or_dash(text: &str) -> String {
    if text.is_empty() { "-" } else { text }.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(up_us: u64, calls: u64) -> api::NodeReply {
        let counts = api::CallCounts {
            outcomes: [("ok".into(), calls), ("timeout".into(), calls)].into(),
            waited: vec![0, calls],
            ran: vec![0, 0, calls],
            ..api::CallCounts::default()
        };
        let function = |name: &str, calls| api::NodeFunction {
            name: name.into(),
            pool: "refunction/python".into(),
            running: 2,
            calls,
            ..api::NodeFunction::default()
        };
        api::NodeReply {
            up_us,
            memory_bytes: 1 << 29,
            memory_limit_bytes: u64::MAX,
            container_limit: 24,
            bounds_us: vec![0, 100, 200, 400],
            calls: Some(counts.clone()),
            restores: vec![api::RestoreCounts {
                method: "rewind".into(),
                took: vec![0, calls],
            }],
            containers: vec![api::NodeContainer {
                id: "c1".into(),
                pool: "refunction/python".into(),
                activity: "running".into(),
                function: "busy".into(),
                since_us: 1_500,
                memory_bytes: 1 << 29,
                requests: 17,
            }],
            functions: vec![
                api::NodeFunction {
                    backing_off: Some(api::BackingOff {
                        for_us: 2_000_000,
                        cause: "it crashed\x1b[2J\nat line 1".into(),
                    }),
                    ..function("alone", None)
                },
                function("busy", Some(counts)),
            ],
            ..api::NodeReply::default()
        }
    }

    fn text(picture: &Picture<'_>) -> String {
        let mut text = Vec::new();
        picture.write(&mut text).unwrap();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn rates_are_of_the_time_between_two_looks() {
        let (before, now) = (view(1_000_000, 10), view(3_000_000, 30));
        let page = text(&Picture::new(&now, Some(&before)));
        assert!(page.contains("calls     20.0/s   failed 10.0/s"), "{page}");
        assert!(
            page.contains("restores  10.0/s   rewind 10.0/s p50 150 µs"),
            "{page}"
        );
        assert!(page.contains("over 2.00 s"), "{page}");
        // Since it began, and from anew when another daemon did.
        for before in [None, Some(&view(9_000_000, 90))] {
            let page = text(&Picture::new(&now, before));
            assert!(page.contains("calls     20.0/s"), "{page}");
            assert!(page.contains("over 3.00 s"), "{page}");
        }
    }

    #[test]
    fn the_busiest_comes_first_and_no_tenant_draws() {
        let now = view(3_000_000, 30);
        let page = text(&Picture::new(&now, None));
        let place = |word: &str| page.find(&format!("\n{word} ")).expect(word);
        assert!(place("busy") < place("alone"), "{page}");
        assert!(
            page.contains("alone is left alone for 2.00 s: it crashed [2J\n"),
            "{page}"
        );
        assert!(!page.contains('\x1b') && !page.contains("line 1"), "{page}");
        assert!(page.contains("c1"), "{page}");
    }

    #[test]
    fn the_document_has_everything() {
        let now = view(3_000_000, 30);
        let document = Picture::new(&now, None).document();
        assert_eq!(document["memory_limit_bytes"], Value::Null);
        assert_eq!(document["calls"]["outcomes"]["ok"], 30);
        assert_eq!(document["restores"]["rewind"]["count"], 30);
        assert_eq!(document["containers"][0]["requests"], 17);
        assert_eq!(document["functions"][0]["name"], "busy");
        assert_eq!(document["functions"][1]["calls"], Value::Null);
    }
}
