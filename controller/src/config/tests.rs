use std::collections::BTreeSet;

use clap::{CommandFactory, Parser};
use serde_json::Value;

use std::path::Path;

use super::*;
use crate::cli::Arguments;

const EXAMPLE: &str = include_str!("../../../packaging/refunctiond.toml");

/// Every setting with a value, so that each has a name when it is written. No `..`:
/// who adds a setting adds it here, and then to the example.
fn everything() -> Config {
    Config {
        state_dir: "/a".into(),
        root_dir: "/b".into(),
        socket: "/c".into(),
        log_format: LogFormat::Json,
        threads: NonZeroU32::new(1),
        containerd: Containerd {
            address: "/d".into(),
            private: true,
            namespace: "e".into(),
        },
        network: Network {
            mode: NetworkMode::Cni,
            conf_dir: "/f".into(),
            bin_dirs: vec!["/g".into()],
            name: Some("h".into()),
        },
        node: Node {
            memory: Some(Size(1 << 30)),
            max_containers: 1,
            max_creations: 1,
            queue: 1,
            queue_per_function: 1,
            longest_wait: Duration::from_secs(1),
            keep_warm: Duration::from_secs(1),
            min_available: Some(Size(1)),
        },
        gateway: Gateway {
            listen: vec![Place::Socket("/i".into())],
            token_file: Some("/j".into()),
            images: BTreeMap::from([("O".into(), "p".into())]),
            patience: Duration::from_secs(1),
            grace: Duration::from_secs(1),
            max_results: 1,
            results_memory: Size(1),
            keep_results: Duration::from_secs(1),
        },
        cri: Cri {
            socket: Some("/k".into()),
        },
        traces: Traces {
            endpoint: Some("http://q:1".into()),
        },
        pools: vec![Pool {
            image: "l".into(),
            min: 1,
            max: 1,
            memory: Size(1 << 30),
            pids: 10,
            env: BTreeMap::from([("M".into(), "n".into())]),
            shrink_after: Duration::from_secs(1),
            grow_after: Duration::from_secs(1),
            spare: 0,
            reuse: Reuse::Never,
        }],
    }
}

/// The names of all settings in a document. What a pool's variables and the gateway's
/// runtimes are called is the operator's choice.
fn names(value: &Value, of: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(table) if !["pool.env", "gateway.images"].contains(&of) => {
            for (key, value) in table {
                let name = if of.is_empty() {
                    key.clone()
                } else {
                    format!("{of}.{key}")
                };
                names(value, &name, found);
            }
        }
        Value::Array(list) if list.iter().any(Value::is_object) => {
            for element in list {
                names(element, of, found);
            }
        }
        _ => {
            found.insert(of.to_owned());
        }
    }
}

fn all_names(value: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    names(value, "", &mut found);
    found
}

/// The example with its settings that are commented out: a `#` right before a name or
/// a bracket, while prose has a space there.
fn uncommented() -> String {
    EXAMPLE
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(setting) if !setting.is_empty() && !setting.starts_with([' ', '#']) => setting,
            _ => line,
        })
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn the_example_is_the_defaults() {
    let example = Source::for_test(EXAMPLE).parse().unwrap();
    assert_eq!(example, Config::default());
    // And says them, instead of leaving them out.
    let said = toml::from_str(EXAMPLE).unwrap();
    let defaults = serde_json::to_value(Config::default()).unwrap();
    for name in all_names(&defaults) {
        let absent = [
            "threads",
            "network.name",
            "node.memory",
            "node.min_available",
            "traces.endpoint",
            "gateway.token_file",
            "cri.socket",
            "pool",
        ];
        assert_ne!(
            all_names(&said).contains(&name),
            absent.contains(&name.as_str()),
            "{name}"
        );
    }
}

#[test]
fn the_example_names_every_setting_and_no_other() {
    let text = uncommented();
    let whole = Source::for_test(&text).parse().unwrap();
    assert_eq!(whole.contradictions(), []);
    let said: Value = toml::from_str(&text).unwrap();
    let all = serde_json::to_value(everything()).unwrap();
    assert_eq!(all_names(&said), all_names(&all));
    // What is commented out of a pool are its defaults, but for what has none.
    let pool = Pool {
        image: whole.pools[0].image.clone(),
        env: whole.pools[0].env.clone(),
        ..Pool::default()
    };
    assert_eq!(whole.pools, [pool]);
}

#[test]
fn what_is_wrong_is_told_with_its_line() {
    for (text, words) in [
        (
            "\n\nstate_dur = \"/x\"",
            &["refunctiond.toml:3: ", "state_dur", "state_dir"][..],
        ),
        (
            "[network]\nmode = \"host\"",
            &["toml:2: ", "host", "none", "cni"],
        ),
        ("[node]\nqueue = -1", &["toml:2: ", "-1"]),
        ("[node]\nmemory = \"much\"", &["toml:2: ", "much", "256M"]),
        (
            "[node]\nlongest_wait = \"10\"",
            &["toml:2: ", "\"10\"", "10m"],
        ),
        (
            "[gateway]\nlisten = [\"8080\"]",
            &["toml:2: ", "8080", "127.0.0.1:8080"],
        ),
        ("a = ", &["toml:1: "]),
        ("[[pool]]\nimage = 1", &["toml:2: ", "string"]),
    ] {
        let error = Source::for_test(text).parse().unwrap_err().to_string();
        for word in words {
            assert!(error.contains(word), "{word}: {error}");
        }
        assert!(!error.contains('\n'), "{error}");
    }
}

fn placed(text: &str) -> Vec<String> {
    let source = Source::for_test(text);
    let problems = source.parse().unwrap().contradictions();
    let placed = source.place(problems);
    placed.iter().map(ToString::to_string).collect()
}

#[test]
fn what_contradicts_itself_is_told_with_its_line() {
    assert_eq!(placed(""), [""; 0]);
    for (text, begins, word) in [
        (
            "[[pool]]\nimage = \"a\"\n[[pool]]\nimage = \"b\"\nmin = 3\nmax = 2",
            "refunctiond.toml:5: pool.1.min: ",
            "more than max",
        ),
        (
            "[[pool]]\nmax = 2",
            "refunctiond.toml:1: pool.0.image: ",
            "image",
        ),
        (
            "[[pool]]\nimage = \"a\"\n[[pool]]\nimage = \"a\"",
            "refunctiond.toml:4: pool.1.image: ",
            "already",
        ),
        (
            "[[pool]]\nimage = \"a\"\nmemory = \"1M\"",
            "refunctiond.toml:3: pool.0.memory: ",
            "16 MiB",
        ),
        (
            "[[pool]]\nimage = \"a\"\nenv = {\"A=\" = \"\"}",
            "refunctiond.toml:3: pool.0.env: ",
            "A=",
        ),
        (
            "[node]\nmemory = \"1G\"\n[[pool]]\nimage = \"a\"\nmin = 3",
            "refunctiond.toml:2: node.memory: ",
            "1536 MiB",
        ),
        (
            "[[pool]]\nimage = \"a\"\nmin = 24\n[[pool]]\nimage = \"b\"",
            "node.max_containers: ",
            "25",
        ),
        ("[node]\nqueue = 0", "refunctiond.toml:2: node.queue: ", "0"),
        (
            "[gateway]\nlisten = [\n\"127.0.0.1:1\",\n\"0.0.0.0:1\"]",
            "refunctiond.toml:4: gateway.listen.1: ",
            "token_file",
        ),
        (
            "[gateway]\nlisten = [\"[::]:1\"]",
            "refunctiond.toml:2: gateway.listen.0: ",
            "token_file",
        ),
        (
            "[containerd]\nprivate = true\n[cri]\nsocket = \"/a\"",
            "refunctiond.toml:4: cri.socket: ",
            "containerd",
        ),
        (
            "socket = \"/a\"\n[cri]\nsocket = \"/a\"",
            "refunctiond.toml:3: cri.socket: ",
            "control",
        ),
        (
            "[network]\nmode = \"cni\"\nbin_dirs = []",
            "refunctiond.toml:3: network.bin_dirs: ",
            "plugins",
        ),
    ] {
        let placed = placed(text);
        assert_eq!(placed.len(), 1, "{placed:?}");
        assert!(placed[0].starts_with(begins), "{begins}: {placed:?}");
        assert!(placed[0].contains(word), "{word}: {placed:?}");
    }
    let local = "[gateway]\nlisten = [\"127.0.0.1:1\", \"[::1]:1\", \"unix:/a\"]";
    assert_eq!(placed(local), [""; 0]);
    let token = "[gateway]\nlisten = [\"0.0.0.0:1\"]\ntoken_file = \"/a\"";
    assert_eq!(placed(token), [""; 0]);
}

#[test]
fn what_is_absent_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let mut config = Config::default();
    config.containerd.private = true;
    assert_eq!(config.absences(), []);
    config.containerd.private = false;
    config.containerd.address = "/nonexistent/containerd.sock".into();
    config.network.mode = NetworkMode::Cni;
    config.network.conf_dir = path.join("net.d");
    config.network.bin_dirs = vec![path.to_owned()];
    config.gateway.token_file = Some(path.join("token"));
    let settings = |config: &Config| -> Vec<String> {
        let found = config.absences().into_iter();
        found.map(|it| it.setting.join(".")).collect()
    };
    assert_eq!(
        settings(&config),
        [
            "containerd.address",
            "network.conf_dir",
            "gateway.token_file"
        ]
    );
    std::fs::create_dir(path.join("net.d")).unwrap();
    let network = r#"{"name": "n", "plugins": [{"type": "p", "ipam": {"type": "q"}}]}"#;
    std::fs::write(path.join("net.d/1.conflist"), network).unwrap();
    std::fs::write(path.join("token"), "secret").unwrap();
    let mode = |bits| std::fs::Permissions::from_mode(bits);
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path.join("token"), mode(0o644)).unwrap();
    assert_eq!(
        settings(&config),
        [
            "containerd.address",
            "network.bin_dirs",
            "gateway.token_file"
        ]
    );
    std::fs::set_permissions(path.join("token"), mode(0o600)).unwrap();
    std::fs::write(path.join("p"), "").unwrap();
    // The plugin is there, and the one that gives it addresses is not.
    assert_eq!(settings(&config)[1], "network.bin_dirs");
    std::fs::write(path.join("q"), "").unwrap();
    assert_eq!(settings(&config), ["containerd.address"]);
    std::fs::write(path.join("token"), "\n").unwrap();
    assert_eq!(
        settings(&config),
        ["containerd.address", "gateway.token_file"]
    );
}

#[test]
fn the_command_line_goes_over_the_file_and_the_file_over_the_defaults() {
    let file = "state_dir = \"/file\"\nsocket = \"/file/s\"\n[containerd]\nprivate = true\n[network]\nbin_dirs = [\"/one\"]";
    let mut config = Source::for_test(file).parse().unwrap();
    let line = [
        "refunctiond",
        "--socket",
        "/line",
        "--cni-bin-dir",
        "/two",
        "--cni-bin-dir",
        "/three",
        "--network",
        "cni",
    ];
    Arguments::try_parse_from(line)
        .unwrap()
        .lay_over(&mut config);
    assert_eq!(config.state_dir, Path::new("/file"));
    assert_eq!(config.socket, Path::new("/line"));
    assert_eq!(config.root_dir, Config::default().root_dir);
    assert!(config.containerd.private);
    assert_eq!(config.network.mode, NetworkMode::Cni);
    assert_eq!(
        config.network.bin_dirs,
        [Path::new("/two"), Path::new("/three")]
    );
    // One containerd or the other.
    let line = ["refunctiond", "--containerd-address", "/c"];
    Arguments::try_parse_from(line)
        .unwrap()
        .lay_over(&mut config);
    assert!(!config.containerd.private);
}

#[test]
fn the_help_tells_the_defaults() {
    let defaults = Config::default();
    let help = Arguments::command().render_long_help().to_string();
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    for path in [
        &defaults.state_dir,
        &defaults.root_dir,
        &defaults.socket,
        &defaults.containerd.address,
        &defaults.network.conf_dir,
        &defaults.network.bin_dirs[0],
        &defaults.network.bin_dirs[1],
        &PathBuf::from(DEFAULT_FILE),
    ] {
        let path = path.display().to_string();
        assert!(help.contains(&path), "{path} is not in the help");
    }
}
