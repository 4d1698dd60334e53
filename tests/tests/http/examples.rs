//! The examples, run as their images run them.

use std::fs;
use std::path::Path;

use refunction_tests::http::{LAMBDA, Site};
use refunction_tests::{eventually, java};
use serde_json::{Value, json};

use crate::Case;
use crate::language::Language;

pub const CASES: &[Case] = &[("the_example_does_what_its_readme_says", example)];

/// What there is for Python besides.
pub const ONCE: &[Case] = &[("the_other_examples_do_what_their_readme_says", others)];

const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples");

/// A container of this example, as its Dockerfile has it.
fn site(language: &Language, name: &str) -> Site {
    let directory = Path::new(EXAMPLES).join(name);
    let directory = directory.canonicalize().expect("an example");
    let dockerfile = fs::read_to_string(directory.join("Dockerfile")).expect("a Dockerfile");
    assert!(dockerfile.contains(&format!("FROM refunction/{}\n", language.name)));
    let command = dockerfile
        .lines()
        .find_map(|line| line.strip_prefix("CMD "));
    let command: Vec<String> =
        serde_json::from_str(command.expect("a command")).expect("a list of words");
    let words: Vec<&str> = command.iter().map(String::as_str).collect();
    let root = match language.name {
        "java" => java::compile(&java::sources_under(&directory.join("src"))),
        _ => directory,
    };
    Site::start(&[&language.arguments()[..], &words].concat(), |command| {
        language.furnish(command);
        command.env("LAMBDA_TASK_ROOT", root);
    })
}

fn readme() -> String {
    fs::read_to_string(Path::new(EXAMPLES).join("README.md")).expect("a README")
}

fn others(language: &Language) {
    let readme = readme();
    for name in ["streaming", "wsgi", "asgi"] {
        let directory = format!("examples/python/{name}");
        let site = site(language, &format!("python/{name}"));
        let mut lines = readme.lines().skip_while(|line| !line.contains(&directory));
        let asked = lines.find(|line| line.contains("curl")).expect("a request");
        let (_, path) = asked.split_once(":8080").expect("a port");
        let path = path.split(' ').next().filter(|path| !path.is_empty());
        let (method, body) = match asked.split('\'').nth(1) {
            Some(body) => ("POST", body),
            None => ("GET", ""),
        };
        let expected: Vec<&str> = lines
            .take_while(|line| line.is_empty() || line.starts_with("    "))
            .take_while(|line| !line.contains("docker"))
            .map(str::trim)
            .collect();
        for _ in 0..3 {
            let answer = site.send(method, path.unwrap_or("/"), &[], body.as_bytes());
            assert_eq!(answer.text().trim(), expected.join("\n").trim(), "{name}");
        }
    }
}

fn example(language: &Language) {
    let site = site(language, language.name);
    // The request of the README, its answer, and the claim that goes with them.
    let readme = readme();
    let mut lines = readme.lines().skip_while(|line| !line.contains("curl"));
    let asked = lines.next().and_then(|line| line.split('\'').nth(1));
    let asked: Value = serde_json::from_str(asked.expect("a request")).expect("JSON");
    let answer = lines.next().expect("an answer").trim();
    let answer: Value = serde_json::from_str(answer).expect("JSON");
    for _ in 0..3 {
        assert_eq!(site.call(&asked), answer);
    }
    let named = json!({"items": [{"name": "bread"}, {"name": "apple", "count": 5}]});
    let answer = site.post(LAMBDA, &named).json();
    assert_eq!(answer, json!({"items": 6, "total": 520, "requests": 1}));
    eventually("it printed", || site.output().contains("6 items\n"));
}
