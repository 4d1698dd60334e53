//! Every runtime's image, in containers with a limit of memory.

use refunction_tests::host::Host;
use refunction_tests::java;

/// Of memory that a container has.
const LIMIT: u64 = 256 << 20;

/// Takes as many bytes as it is told, and says how many that were.
const JAVASCRIPT: &str = "
globalThis.kept = [];
function main(bytes) {
  for (let taken = 0; taken < bytes; taken += 1 << 20) kept.push(new Uint8Array(1 << 20).fill(7));
  return kept.length << 20;
}
";

const LUA: &str = "
kept = {}
function main(bytes)
  for taken = 0, bytes - 1, 1 << 20 do kept[#kept + 1] = string.rep(tostring(taken), 1 << 18) end
  return #kept << 20
end
";

const JAVA: &str = "
import java.util.ArrayList;
import java.util.List;

public class Main {
    static final List<byte[]> kept = new ArrayList<>();

    public static long main(long bytes) {
        for (long taken = 0; taken < bytes; taken += 1 << 20) kept.add(new byte[1 << 20]);
        return (long) kept.size() << 20;
    }
}
";

/// A function that wants more than its container has is told so, and it alone.
fn runs_out(runtime: &str, code: &[u8], kinds: &[&str]) {
    let host = Host::with_images(&[runtime]);
    let image = format!("refunction/{runtime}");
    let id = host.create_from(&image, "small", &["--memory", &LIMIT.to_string()]);
    let load = || {
        let loaded = host.funk_reading(&["function", "-c", &id, "-f", "-"], code);
        assert_eq!(loaded.ok()["loaded"], true);
    };
    load();
    for _ in 0..2 {
        let answer = host.request(&id, &(4 * LIMIT).to_string());
        let kind = answer.json["error"]["kind"].as_str().expect("a kind");
        assert!(kinds.contains(&kind), "{answer:?}");
        match kind {
            "out_of_memory" => {
                answer.fails(6, &["out of memory", &format!("limit {LIMIT}"), "peak"]);
            }
            _ => answer.fails(1, &["OutOfMemoryError"]),
        }
        host.funk(&["restore", "-c", &id]).ok();
        load();
        assert_eq!(host.request(&id, "1048576").ok()["value"], 1 << 20);
    }
    host.funk(&["rm", &id]).ok();
    host.assert_no_container_left();
}

#[test]
fn javascript_without_memory() {
    runs_out("javascript", JAVASCRIPT.as_bytes(), &["out_of_memory"]);
}

#[test]
fn node_without_memory() {
    runs_out("node", JAVASCRIPT.as_bytes(), &["out_of_memory"]);
}

#[test]
fn lua_without_memory() {
    runs_out("lua", LUA.as_bytes(), &["out_of_memory"]);
}

/// The JVM keeps to a part of what the container has, and says so itself.
#[test]
fn java_without_memory() {
    let class = java::compile_text(JAVA).expect("it compiles");
    runs_out("java", &class, &["exception", "out_of_memory"]);
}
