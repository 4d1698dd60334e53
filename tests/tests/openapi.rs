//! The gateway, tried by a tester that knows nothing but the document which it serves.

use std::path::Path;
use std::process::Command;

use refunction_tests::host::run_for;
use refunction_tests::node::Node;
use serde_json::json;

/// Longer than anything else takes: hundreds of requests.
const MINUTES: u64 = 10;

#[test]
fn what_is_answered_is_what_the_document_says() {
    let Some(program) = std::env::var_os("REFUNCTION_SCHEMATHESIS") else {
        println!("skipped: schemathesis is not installed; `cargo xtask test` installs it");
        return;
    };
    let settings = "[node]\nmax_containers = 2\nlongest_wait = \"5s\"\n";
    let node = Node::start("openapi", settings);
    node.put("f", "def main(args):\n    return args\n", &json!({}));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../controller/tests/schemathesis.sh");
    let mut command = Command::new(script);
    command
        .arg(format!("http://127.0.0.1:{}", node.port()))
        .env("SCHEMATHESIS", program)
        .env("EXAMPLES", "20");
    let answer = run_for(
        &mut command,
        b"",
        std::time::Duration::from_secs(60 * MINUTES),
    );
    assert_eq!(answer.code, 0, "{}\n{}", answer.text, answer.errors);
    // It tried something.
    assert!(answer.text.contains("passed"), "{}", answer.text);
    // The tester deletes functions, too, whatever they are called.
    node.put("after", "def main(args):\n    return args\n", &json!({}));
    assert_eq!(node.ok("after", &json!([1])).0, json!([1]));
    node.end();
}
