//! Answers in pieces, of functions by name: through gateway, controller and supervisor.

use refunction_tests::eventually;
use refunction_tests::http::{Chunk, Connection};
use refunction_tests::node::Node;
use refunction_tests::process;
use serde_json::{Value, json};

/// Says as an argument tells it to.
const FUNCTION: &str = "
import string, time
def main(args):
    if args['op'] == 'plain':
        return getattr(string, 'left', None)
    string.left = True
    return pieces(args)

def pieces(args):
    if args['op'] == 'large':
        for number in range(args['count']):
            print(number, flush=True)
            yield bytes([number % 256]) * 65536
        return
    yield 'first'
    time.sleep(args['seconds'])
    if args['op'] == 'raise':
        raise ValueError('no more')
    yield 'last'
";

fn node(name: &str) -> Node {
    let node = Node::start(name, "[node]\nmax_containers = 1\n");
    node.put("f", FUNCTION, &json!({}));
    node.put("other", FUNCTION, &json!({}));
    node
}

/// Asks, and waits for the head of the answer.
#[track_caller]
fn begin(node: &Node, argument: &Value) -> Connection {
    let mut connection = Connection::to(node.port());
    let body = argument.to_string();
    connection.request("POST", "/functions/f", &[], body.as_bytes());
    let head = connection.head();
    assert_eq!(head.status, 200);
    assert_eq!(head.header("transfer-encoding"), "chunked", "{head:?}");
    let container = node.containers().remove(0);
    assert_eq!(head.header("x-refunction-container"), container);
    assert!(!head.header("x-request-id").is_empty());
    connection
}

/// Another tenant comes after it.
#[track_caller]
fn assert_put_back(node: &Node) {
    let (left, start) = node.ok("other", &json!({"op": "plain"}));
    assert_eq!((left, start.as_str()), (Value::Null, "swapped"));
}

#[test]
fn a_piece_is_there_before_the_next_is_made_and_all_are_put_back_after() {
    let node = node("pieces");
    let mut connection = begin(&node, &json!({"op": "hold", "seconds": 3}));
    assert_eq!(connection.chunk(), Chunk::Piece("first".into()));
    let listed = node.host.funk(&["list"]).ok();
    assert_eq!(listed["containers"][0]["state"], "running", "{listed}");
    assert_eq!(connection.rest(), (b"last".to_vec(), Chunk::Last));
    assert_put_back(&node);
    // The connection is good for more, and who waits for no pieces has them joined.
    connection.request(
        "POST",
        "/functions/f?async",
        &[],
        b"{\"op\": \"hold\", \"seconds\": 0}",
    );
    let accepted = connection.answer();
    assert_eq!(accepted.status, 202, "{}", accepted.text());
    let place = format!("{}?wait=30", accepted.header("location"));
    let result = node.ask("GET", &place, &Value::Null);
    assert_eq!((result.status, result.json()), (200, json!("firstlast")));
    node.end();
}

#[test]
fn what_goes_wrong_in_the_middle_breaks_the_answer_and_harms_nobody_else() {
    let node = node("broken");
    let mut connection = begin(&node, &json!({"op": "raise", "seconds": 0}));
    let (body, end) = connection.rest();
    assert_eq!((body, end), (b"first".to_vec(), Chunk::Broken));
    assert_put_back(&node);
    let mut connection = begin(&node, &json!({"op": "hold", "seconds": 1000}));
    assert_eq!(connection.chunk(), Chunk::Piece("first".into()));
    let [supervisors, workers] = node.host.inside();
    assert_eq!(supervisors.len(), 1);
    for worker in workers {
        worker.signal(nix::sys::signal::Signal::SIGKILL);
    }
    assert_eq!(connection.rest(), (Vec::new(), Chunk::Broken));
    // In another worker, which nobody had.
    let (left, start) = node.ok("other", &json!({"op": "plain"}));
    assert_eq!((left, start.as_str()), (Value::Null, "restored"));
    node.end();
}

#[test]
fn a_client_that_does_not_read_holds_the_function_up() {
    const PIECES: usize = 1024;
    // Beside what the sockets between a function and its client hold.
    const MOST_AHEAD: usize = 256;
    let node = node("slow");
    node.ok("f", &json!({"op": "plain"}));
    let size = || process::Size::of(node.host.daemon().pid).own_kib;
    let before = size();
    let mut connection = begin(&node, &json!({"op": "large", "count": PIECES}));
    let made = || {
        let logs = node.host.funk(&["logs", "--function", "f"]).ok();
        logs["lines"].as_array().expect("lines").len()
    };
    let mut seen = 0;
    eventually("it is held up", || {
        let before = std::mem::replace(&mut seen, made());
        seen > 0 && seen == before
    });
    assert!(seen < MOST_AHEAD, "{seen} pieces were made ahead");
    assert!(size() < before + 32 * 1024, "{before} and {} KiB", size());
    let (body, end) = connection.rest();
    assert_eq!((body.len(), end), (PIECES << 16, Chunk::Last));
    for (number, piece) in body.chunks(1 << 16).enumerate() {
        assert!(
            piece.iter().all(|it| usize::from(*it) == number % 256),
            "piece {number}"
        );
    }
    assert_put_back(&node);
    node.end();
}
