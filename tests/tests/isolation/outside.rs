//! What this host sees of a worker that waits for its next function.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Lines by what they tell of, so that a difference has a name.
pub type View = BTreeMap<String, String>;

/// Lines of `/proc/<pid>/status` that tell of something a process can change. Not
/// there: numbers of processes, sizes of memory and of the table of descriptors,
/// counts of context switches.
const STATUS: &[&str] = &[
    "Name",
    "Umask",
    "Uid",
    "Gid",
    "Groups",
    "Kthread",
    "VmLck",
    "VmPin",
    "HugetlbPages",
    "CoreDumping",
    "THP_enabled",
    "untag_mask",
    "Threads",
    "SigPnd",
    "ShdPnd",
    "SigBlk",
    "SigIgn",
    "SigCgt",
    "CapInh",
    "CapPrm",
    "CapEff",
    "CapBnd",
    "CapAmb",
    "NoNewPrivs",
    "Seccomp",
    "Seccomp_filters",
    "Speculation_Store_Bypass",
    "SpeculationIndirectBranch",
    "Cpus_allowed",
    "Mems_allowed",
    "x86_Thread_features",
    "x86_Thread_features_locked",
];

/// Fields of `/proc/<pid>/stat` (proc_pid_stat(5)), by their number there: parent,
/// group, session, terminal, its group, priority, nice, threads, interval timer,
/// limit of resident memory, code and stack, exit signal, real-time priority and
/// policy, data, break, arguments, environment.
const STAT: &[usize] = &[
    4, 5, 6, 7, 8, 18, 19, 20, 21, 25, 26, 27, 28, 38, 40, 41, 45, 46, 47, 48, 49, 50, 51,
];

/// The field that tells one process from a later one of the same number.
const START_TIME: usize = 22;

/// Marks of a mapping that come and go with its use: accounting, and soft-dirty.
const FLEETING_FLAGS: &[&str] = &["ac", "sd"];

/// What is the same for every worker of one template, and the files of its user.
pub fn view(worker: u32, uid: u32) -> Result<View, String> {
    let read = |name: &str| read(worker, name);
    let mut any = View::new();
    for line in read("status")?.lines() {
        if let Some((name, value)) = line.split_once(':')
            && STATUS.contains(&name)
        {
            any.insert(format!("status {name}"), value.trim().to_owned());
        }
    }
    let stat = read("stat")?;
    let fields = stat_fields(&stat).ok_or("its stat cannot be read")?;
    for number in STAT {
        let value = fields.get(number - 3).ok_or("a field of stat is missing")?;
        any.insert(format!("stat {number}"), (*value).to_owned());
    }
    for name in [
        "limits",
        "timers",
        "cgroup",
        "oom_score_adj",
        "coredump_filter",
        "personality",
        "loginuid",
        "sessionid",
        "timerslack_ns",
        "cmdline",
        "environ",
        "setgroups",
        "uid_map",
        "auxv",
    ] {
        // Some kernels have not all of them.
        if let Ok(bytes) = fs::read(format!("/proc/{worker}/{name}")) {
            any.insert(name.into(), String::from_utf8_lossy(&bytes).into_owned());
        }
    }
    any.insert("children".into(), read(&format!("task/{worker}/children"))?);
    for link in ["cwd", "root", "exe"] {
        let target = fs::read_link(format!("/proc/{worker}/{link}"))
            .map_err(|error| format!("{link}: {error}"))?;
        any.insert(link.into(), target.display().to_string());
    }
    for namespace in ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"] {
        if let Ok(target) = fs::read_link(format!("/proc/{worker}/ns/{namespace}")) {
            any.insert(
                format!("namespace {namespace}"),
                target.display().to_string(),
            );
        }
    }
    descriptors(worker, &mut any)?;
    any.insert("mappings".into(), mappings(&read("smaps")?));
    any.insert("files".into(), files(worker, uid));
    Ok(any)
}

/// What only a worker that was put back in place still has: its number, its start,
/// and its very pipes.
pub fn identity(worker: u32) -> Result<View, String> {
    let mut this = View::new();
    let stat = read(worker, "stat")?;
    let start = stat_fields(&stat).and_then(|fields| fields.get(START_TIME - 3).copied());
    this.insert("process".into(), format!("{worker} {start:?}"));
    for number in numbers(worker)? {
        let target = fs::read_link(format!("/proc/{worker}/fd/{number}"))
            .map_err(|error| format!("descriptor {number}: {error}"))?;
        this.insert(
            format!("target of descriptor {number}"),
            target.display().to_string(),
        );
    }
    Ok(this)
}

fn read(worker: u32, name: &str) -> Result<String, String> {
    fs::read_to_string(format!("/proc/{worker}/{name}"))
        .map_err(|error| format!("reading /proc/{worker}/{name}: {error}"))
}

/// What `now` shows otherwise than `then`.
pub fn differences(then: &View, now: &View) -> Vec<String> {
    let mut found = Vec::new();
    for name in then
        .keys()
        .chain(now.keys().filter(|it| !then.contains_key(*it)))
    {
        let (was, is) = (then.get(name), now.get(name));
        if was == is {
            continue;
        }
        let lines = |text: Option<&String>| -> Vec<String> {
            text.map(|text| text.lines().map(str::to_owned).collect())
                .unwrap_or_default()
        };
        let (was, is) = (lines(was), lines(is));
        let gone: Vec<_> = was.iter().filter(|line| !is.contains(line)).collect();
        let new: Vec<_> = is.iter().filter(|line| !was.contains(line)).collect();
        found.push(format!("{name}: {gone:?} became {new:?}"));
    }
    found
}

/// All fields from the third, the state, on: what stands before is the name, which
/// may hold anything.
fn stat_fields(stat: &str) -> Option<Vec<&str>> {
    let (_, rest) = stat.rsplit_once(')')?;
    Some(rest.split_whitespace().collect())
}

fn numbers(worker: u32) -> Result<Vec<i32>, String> {
    let failed = |error: std::io::Error| format!("its descriptors: {error}");
    let mut numbers = Vec::new();
    for entry in fs::read_dir(format!("/proc/{worker}/fd")).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let number = name.to_str().and_then(|name| name.parse().ok());
        numbers.push(number.ok_or("a descriptor without a number")?);
    }
    Ok(numbers)
}

fn descriptors(worker: u32, any: &mut View) -> Result<(), String> {
    for number in numbers(worker)? {
        let path = format!("/proc/{worker}/fd/{number}");
        let failed = |error: std::io::Error| format!("{path}: {error}");
        let target = fs::read_link(&path).map_err(failed)?;
        // In brackets is the inode's number, which a new worker's pipes do not share.
        let target = target.display().to_string();
        let kind = target.split('[').next().unwrap_or_default();
        let info = read(worker, &format!("fdinfo/{number}"))?;
        let info: Vec<&str> = info
            .lines()
            .filter(|line| !line.starts_with("ino:"))
            .collect();
        let file = fs::metadata(&path).map_err(failed)?;
        any.insert(
            format!("descriptor {number}"),
            format!(
                "{kind} {} {} {} {:o}",
                info.join(" "),
                file.uid(),
                file.gid(),
                file.mode()
            ),
        );
    }
    Ok(())
}

/// One line for each stretch of mappings that are alike. Rewinding may leave more
/// pieces than there were, since the kernel does not always join them again.
fn mappings(smaps: &str) -> String {
    struct Stretch {
        start: u64,
        end: u64,
        like: String,
    }
    let mut all: Vec<Stretch> = Vec::new();
    for line in smaps.lines() {
        let first = line.split_whitespace().next().unwrap_or_default();
        if first.ends_with(':') {
            if let (Some(flags), Some(last)) = (line.strip_prefix("VmFlags:"), all.last_mut()) {
                let flags: Vec<&str> = flags
                    .split_whitespace()
                    .filter(|flag| !FLEETING_FLAGS.contains(flag))
                    .collect();
                let _ = write!(last.like, " [{}]", flags.join(" "));
            }
            continue;
        }
        let fields: Vec<&str> = line.split_whitespace().collect();
        let hex = |text: &str| u64::from_str_radix(text, 16).unwrap_or_default();
        let Some((start, end)) = first.split_once('-') else {
            continue;
        };
        // A heap of the image's is no longer called one, nor is one that grew back.
        let name = fields.get(5).copied().unwrap_or_default();
        let name = if name == "[heap]" { "" } else { name };
        all.push(Stretch {
            start: hex(start),
            end: hex(end),
            like: format!("{} {name}", fields.get(1).copied().unwrap_or_default()),
        });
    }
    let mut joined: Vec<Stretch> = Vec::new();
    for stretch in all {
        match joined.last_mut() {
            Some(last) if last.end == stretch.start && last.like == stretch.like => {
                last.end = stretch.end;
            }
            _ => joined.push(stretch),
        }
    }
    joined.iter().fold(String::new(), |mut text, it| {
        let _ = writeln!(text, "{:x}-{:x} {}", it.start, it.end, it.like);
        text
    })
}

/// Files of the worker's user in the directories that everybody may write to, as the
/// worker's own root has them.
fn files(worker: u32, uid: u32) -> String {
    let mut found = Vec::new();
    for place in ["tmp", "var/tmp", "dev/shm", "dev/mqueue"] {
        let directory = Path::new("/proc")
            .join(worker.to_string())
            .join("root")
            .join(place);
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            if entry.metadata().is_ok_and(|file| file.uid() == uid) {
                found.push(format!("/{place}/{}", entry.file_name().to_string_lossy()));
            }
        }
    }
    found.sort();
    found.join("\n")
}
