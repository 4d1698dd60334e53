//! Requests that one container runs beside one another, each in a worker of its own. What
//! they do at the same time is brought about by conversations with them, not by waiting.

pub mod apart;
pub mod ends;
pub mod leak;
pub mod queue;

use refunction_tests::http::{Answer, Site};
use serde_json::Value;

use crate::language::Language;

const REFORKS: &str = "refunction_restores_total{method=\"refork\"} ";

fn site(language: &Language, arguments: &[&str]) -> Site {
    language.named_site_with("beside.handler", arguments)
}

fn of_four(language: &Language) -> Site {
    site(language, &["--concurrency", "4"])
}

fn gets(answer: &Answer, value: &Value) {
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json(), *value);
}

fn metric(site: &Site, name: &str) -> u64 {
    let text = site.get("/_/metrics").text();
    let value = text.lines().find_map(|line| line.strip_prefix(name));
    let value = value.and_then(|value| value.trim().parse().ok());
    value.unwrap_or_else(|| panic!("{name} is not in {text}"))
}
