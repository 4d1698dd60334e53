//! A thousand tenants one after the other in one supervisor: every answer right,
//! and nothing grows.

use refunction_tests::growth::{Sizes, end_quietly, print_times};
use refunction_tests::supervisor::Supervisor;
use serde_json::{Value, json};

/// How a tenant's stay is to end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Rewind,
    Refork,
}

struct Tenant {
    source: &'static str,
    /// What it answers to a number.
    answer: fn(u64) -> Value,
    way: Way,
}

/// Each says whether it found the mark that the one before it left.
const HEAD: &str = "
import os, string
found = [hasattr(string, 'mark'), 'MARK' in os.environ, os.path.exists(f'/tmp/mark-{os.getuid()}')]
string.mark = True
os.environ['MARK'] = '1'
open(f'/tmp/mark-{os.getuid()}', 'w').close()
";

const PLAIN: Tenant = Tenant {
    source: "
def main(number):
    assert not any(found), found
    return number + 1
",
    answer: |number| json!(number + 1),
    way: Way::Rewind,
};

const TENANTS: &[Tenant] = &[
    Tenant {
        source: "
import json, re
def main(number):
    assert not any(found), found
    text = json.dumps({str(key): [key, str(key)] for key in range(1000)})
    return len(re.findall(r'\\d+', text)) + len(json.loads(text)) + number
",
        answer: |number| json!(4000 + number),
        way: Way::Rewind,
    },
    Tenant {
        source: "
import concurrent.futures, threading
def main(number):
    assert not any(found), found
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        total = sum(pool.map(lambda it: it * number, range(50)))
    threading.Thread(target=threading.Event().wait, daemon=True).start()
    return total
",
        answer: |number| json!(number * 49 * 50 / 2),
        way: Way::Rewind,
    },
    Tenant {
        source: "
import subprocess
def main(number):
    assert not any(found), found
    subprocess.Popen(['/bin/sleep', '1000'], start_new_session=True)
    return int(subprocess.run(['/bin/echo', str(number)], capture_output=True).stdout)
",
        answer: |number| json!(number),
        way: Way::Rewind,
    },
    Tenant {
        source: "
import os, tempfile
def main(number):
    assert not any(found), found
    directory = tempfile.mkdtemp()
    for part in range(20):
        with open(f'{directory}/{part}', 'w') as file: file.write('x' * number)
    return sum(os.path.getsize(f'{directory}/{part}') for part in range(20))
",
        answer: |number| json!(number * 20),
        way: Way::Rewind,
    },
    Tenant {
        source: "
import mmap, os, socket
kept = []
def main(number):
    assert not any(found), found
    things = [bytes(1000) for _ in range(number)]
    kept.append([bytearray(20_000_000), mmap.mmap(-1, 10_000_000), things])
    kept.append([open('/etc/passwd') for _ in range(30)] + [socket.socket() for _ in range(30)])
    kept.append(os.pipe())
    return len(things)
",
        answer: |number| json!(number),
        way: Way::Rewind,
    },
    Tenant {
        source: "
import colorsys, fractions, statistics
def main(number):
    assert not any(found), found
    return statistics.median([number, number + 1, number + 2])
",
        answer: |number| json!(number + 1),
        way: Way::Rewind,
    },
    Tenant {
        source: "
import asyncio, hashlib, signal
async def main(number):
    assert not any(found), found
    signal.signal(signal.SIGUSR1, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 100)
    await asyncio.gather(*(asyncio.sleep(0) for _ in range(20)))
    return len(hashlib.sha256(b'%d' % number).hexdigest()) + number
",
        answer: |number| json!(64 + number),
        way: Way::Rewind,
    },
];

/// Cannot be put back: the limit that it lowers stays lowered.
const SELFISH: Tenant = Tenant {
    source: "
import resource
def main(number):
    assert not any(found), found
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    return number
",
    answer: |number| json!(number),
    way: Way::Refork,
};

/// Lets a tenant come, be asked, and go; what the restore took, in microseconds.
fn stay(supervisor: &mut Supervisor, tenant: &Tenant, number: u64) -> u64 {
    supervisor.load(&format!("{HEAD}{}", tenant.source));
    // Twice: a warm worker serves its tenant again and again.
    for again in 0..2 {
        // As much as a tenant uses is not to grow with those before it.
        let number = number % 1000 + again;
        assert_eq!(supervisor.call(&json!(number)), (tenant.answer)(number));
    }
    let restored = supervisor.restore();
    let expected = match tenant.way {
        Way::Rewind => "rewind",
        Way::Refork => "refork",
    };
    assert_eq!(restored.method, expected, "{number}: {}", restored.report);
    restored.report["total_us"].as_u64().expect("a duration")
}

/// Tenants that come before a measurement: a page that some function writes to now and then is
/// kept for up to 64 restores without it, and dropped at the next comparison, every 16th.
const QUIET: u64 = 100;

/// What there is when nothing was asked for a while.
fn measure(supervisor: &mut Supervisor) -> Sizes {
    for number in 0..QUIET {
        stay(supervisor, &PLAIN, number);
    }
    Sizes::of(supervisor)
}

/// Serves so many tenants, and asserts that the last left no more than the first.
fn endure(arguments: &[&str], tenants: u64, pick: fn(u64) -> &'static Tenant) {
    let mut supervisor = Supervisor::start(arguments).unwatched();
    let mut early = None;
    let mut expected_reforks = 0;
    let mut times = Vec::new();
    for number in 0..tenants {
        if number == 200 {
            early = Some(measure(&mut supervisor));
        }
        let tenant = pick(number);
        expected_reforks += u64::from(tenant.way == Way::Refork);
        times.push(stay(&mut supervisor, tenant, number));
        if times.len() == 50_000 {
            print_times(&format!("{} tenants", number + 1), &mut times);
        }
    }
    let late = measure(&mut supervisor);
    print_times(&format!("{tenants} tenants"), &mut times);
    let status = supervisor.status();
    assert_eq!(status["reforks"], expected_reforks, "{status}");
    assert_eq!(
        status["rewinds"],
        tenants + 2 * QUIET - expected_reforks,
        "{status}"
    );
    assert_eq!(status["requests"], 2 * (tenants + 2 * QUIET), "{status}");

    late.assert_no_more_than(&early.expect("measured"), 4 * 1024);
    end_quietly(supervisor);
}

/// Each kind of tenant in its turn, and now and then one that cannot be undone.
fn in_turns(number: u64) -> &'static Tenant {
    if number % 97 == 96 {
        &SELFISH
    } else {
        &TENANTS[number as usize % TENANTS.len()]
    }
}

/// Mostly such as take no time themselves.
fn mostly_plain(number: u64) -> &'static Tenant {
    if number.is_multiple_of(20) {
        in_turns(number / 20)
    } else {
        &PLAIN
    }
}

#[test]
fn a_thousand_tenants_leave_no_trace() {
    endure(&[], 1000, in_turns);
}

#[test]
fn a_thousand_tenants_leave_no_trace_in_the_pagemap_file() {
    endure(&["--scan", "file"], 1000, in_turns);
}

/// `cargo xtask soak`.
#[test]
#[ignore = "takes the better part of an hour"]
fn soak() {
    let tenants = std::env::var("REFUNCTION_SOAK_TENANTS").expect("REFUNCTION_SOAK_TENANTS");
    let tenants = tenants.parse().expect("a number");
    // One template all along: what grows with rewinds is not to go with it.
    let one_template = ["--rotate-after", "0", "--rotate-seconds", "0"];
    endure(&one_template, tenants, mostly_plain);
}
