//! What the other runtimes do without: each is tried in each kind of container.

use std::fs;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use refunction_tests::java;
use serde_json::{Value, json};

use crate::container::{Container, Limits, NEEDED, ORDINARY, USER};

const PLACES: [&str; 3] = ["/tmp", "/var/tmp", "/dev/shm"];

/// A runtime, and its function in `programs/`.
struct Language {
    name: &'static str,
    program: &'static str,
    /// QuickJS has none.
    has_files: bool,
    /// What one that takes more memory than there is ends with, and words of it.
    hungry: (&'static str, &'static str),
}

const NODE: Language = Language {
    name: "node",
    program: "node.js",
    has_files: true,
    hungry: ("out_of_memory", "limit"),
};

/// The heap is bounded before the container is.
const JAVA: Language = Language {
    name: "java",
    program: "Main.java",
    has_files: true,
    hungry: ("exception", "Java heap space"),
};

const JAVASCRIPT: Language = Language {
    name: "javascript",
    program: "javascript.js",
    has_files: false,
    hungry: ("out_of_memory", "limit"),
};

const LUA: Language = Language {
    name: "lua",
    program: "lua.lua",
    has_files: true,
    hungry: ("out_of_memory", "limit"),
};

impl Language {
    fn function(&self) -> Value {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/restricted/programs")
            .join(self.program);
        let text = fs::read_to_string(path).expect("the program");
        if self.name != "java" {
            return json!(text);
        }
        let class = java::compile_text(&text).expect("it compiles");
        json!({"code": STANDARD.encode(class), "binary": true})
    }

    /// Tenants leave what they can, of which none of the next finds anything: the function
    /// is refused files in these places, and runs as that user.
    #[track_caller]
    fn is_put_back(&self, limits: &Limits<'_>, said: &[&[&str]], refused: &[&str], user: u32) {
        let mut container = Container::start(&Limits {
            runtime: self.name,
            ..*limits
        });
        container.assert_lines(said);
        let function = self.function();
        // What the image has is no tenant's.
        let before = self.look(&mut container, &function, user);
        assert_eq!(before["kept"], Value::Null, "{}", self.name);
        for _ in 0..3 {
            let left = self.tenant(&mut container, &function, "leave");
            let looked = self.look(&mut container, &function, user);
            if self.has_files {
                assert_eq!(left["refused"], json!(refused), "{}", self.name);
                assert_authority(&left["status"], user);
            }
            assert_eq!(looked, before, "{}", self.name);
        }
    }

    /// What a tenant finds.
    #[track_caller]
    fn look(&self, container: &mut Container, function: &Value, user: u32) -> Value {
        let mut looked = self.tenant(container, function, "look");
        let found = looked["found"].as_array_mut().expect("a list");
        // A spare of another user than tenants' boots beside them, in a directory that is
        // closed to them; one of theirs makes none.
        let is_a_spares = |name: &Value| name.to_string().starts_with("\"function-");
        found.retain(|name| user != OWN || !is_a_spares(name));
        looked
    }

    /// Has this done by a tenant, and then all put back in place.
    #[track_caller]
    fn tenant(&self, container: &mut Container, function: &Value, op: &str) -> Value {
        let loaded = container.peer().try_load(function);
        assert_eq!(loaded["data"], true, "{}: {loaded}", self.name);
        let answer = container.peer().call(&json!({"op": op, "places": PLACES}));
        let restored = container.peer().restore();
        assert_eq!(
            restored.method,
            "rewind",
            "{}: {}; {}",
            self.name,
            restored.report,
            container.errors()
        );
        answer
    }
}

/// A worker has this user, no capability, and a filter; and gains nothing.
#[track_caller]
fn assert_authority(status: &Value, user: u32) {
    let status = status.as_str().expect("its status");
    let find = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let words = line.expect("it is there").split_whitespace();
        Vec::from_iter(words.map(str::to_owned))
    };
    assert_eq!(find("Uid:"), [user.to_string().as_str(); 4]);
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
        assert_eq!(find(set), ["0000000000000000"], "{set}");
    }
    assert_eq!(
        (find("Seccomp:"), find("NoNewPrivs:")),
        (vec!["2".into()], vec!["1".into()])
    );
}

/// The user that workers have where they have one of their own.
const OWN: u32 = 64_533;

fn is_put_back_whatever_it_lacks(language: &Language) {
    let usual = "make files in /tmp, /var/tmp, /dev/shm only";
    let six = Limits {
        capabilities: NEEDED,
        no_new_privileges: true,
        ..ORDINARY
    };
    language.is_put_back(&six, &[], &[], OWN);
    let without_any = Limits {
        capabilities: "",
        ..ORDINARY
    };
    let said = &[&["started as root without CAP_CHOWN", usual][..]];
    language.is_put_back(&without_any, said, &[], 0);
    let another = Limits {
        user: USER,
        ..ORDINARY
    };
    language.is_put_back(&another, &[&["not started as root", usual]], &[], USER);
    let read_only = Limits {
        read_only: true,
        ..ORDINARY
    };
    language.is_put_back(&read_only, &[], &["/tmp", "/var/tmp"], OWN);
    let pod = Limits {
        user: USER,
        capabilities: "",
        read_only: true,
        no_new_privileges: true,
        writable: &["/tmp"],
        ..ORDINARY
    };
    let said = &[&["not started as root", "make files in /tmp, /dev/shm only"][..]];
    language.is_put_back(&pod, said, &["/var/tmp"], USER);
    let behind = Limits {
        init: true,
        ..ORDINARY
    };
    language.is_put_back(&behind, &[&["not PID 1 of its container"]], &[], OWN);
    let told = Limits {
        env: &["REFUNCTION_OWN_CONTAINER=1"],
        ..behind
    };
    language.is_put_back(&told, &[], &[], OWN);
}

#[test]
fn node_is_put_back_whatever_its_container_lacks() {
    is_put_back_whatever_it_lacks(&NODE);
}

#[test]
fn java_is_put_back_whatever_its_container_lacks() {
    is_put_back_whatever_it_lacks(&JAVA);
}

#[test]
fn javascript_is_put_back_whatever_its_container_lacks() {
    is_put_back_whatever_it_lacks(&JAVASCRIPT);
}

#[test]
fn lua_is_put_back_whatever_its_container_lacks() {
    is_put_back_whatever_it_lacks(&LUA);
}

#[test]
fn a_function_without_memory_is_told_so_in_each_runtime() {
    for language in [NODE, JAVA, JAVASCRIPT, LUA] {
        let mut container = Container::start(&Limits {
            runtime: language.name,
            ..ORDINARY
        });
        let function = language.function();
        for _ in 0..2 {
            let loaded = container.peer().try_load(&function);
            assert_eq!(loaded["data"], true, "{}: {loaded}", language.name);
            let failure = container.peer().fail(&json!({"op": "fill"}));
            let (kind, words) = language.hungry;
            assert_eq!(failure["kind"], kind, "{}: {failure}", language.name);
            let message = failure["message"].as_str().expect("a message");
            assert!(message.contains(words), "{}: {failure}", language.name);
            // The container lives, and so does the function.
            let look = json!({"op": "look", "places": PLACES});
            let looked = container.peer().call(&look);
            assert_eq!(looked["kept"], Value::Null, "{}", language.name);
            let _ = container.peer().restore();
        }
    }
}
