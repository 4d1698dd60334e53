//! Completions and manual pages, read by those that they are for.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use refunction_tests::environment;
use refunction_tests::host::{self, Answer};

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let name = format!("refunction-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).expect("a folder");
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn run(program: &str, arguments: &[&str]) -> Answer {
    let answer = host::run(Command::new(program).args(arguments), b"");
    assert_eq!(answer.code, 0, "{answer:?}");
    answer
}

fn funk(arguments: &[&str]) -> Answer {
    let program = environment::file("FUNK");
    run(program.to_str().expect("UTF-8"), arguments)
}

/// The commands that `funk --help` lists.
fn commands() -> BTreeSet<String> {
    let help = funk(&["--help"]).text;
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    listed
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.strip_prefix("  "))
        .filter(|line| !line.starts_with(' '))
        .filter_map(|line| line.split(' ').next())
        .map(str::to_owned)
        .collect()
}

#[test]
fn bash_completes_every_command() {
    let folder = Folder::new("completions");
    let script = folder.0.join("funk.bash");
    fs::write(&script, funk(&["completions", "bash"]).text).expect("written");
    // As bash does when somebody presses Tab after "funk ".
    let asks = format!(
        ". {}; COMP_WORDS=(funk ''); COMP_CWORD=1; _funk funk '' funk; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        script.display()
    );
    let offered = run("bash", &["-c", &asks]).text;
    let offered: BTreeSet<String> = offered.lines().map(str::to_owned).collect();
    let commands = commands();
    assert!(
        commands.contains("create") && commands.len() > 10,
        "{commands:?}"
    );
    let missing: Vec<_> = commands.difference(&offered).collect();
    assert!(missing.is_empty(), "{missing:?} of {offered:?}");
}

#[test]
fn other_shells_have_scripts_too() {
    for (shell, word) in [("zsh", "#compdef funk"), ("fish", "complete -c funk")] {
        let script = funk(&["completions", shell]).text;
        assert!(script.contains(word), "{shell}: {script}");
        let missing = commands()
            .into_iter()
            .filter(|it| !script.contains(it.as_str()));
        assert_eq!(missing.count(), 0, "{shell}");
    }
}

#[test]
fn every_command_has_a_page() {
    let folder = Folder::new("man");
    let path = folder.0.to_str().expect("UTF-8");
    funk(&["man", path]);
    let has = |name: &str| {
        let text = fs::read_to_string(folder.0.join(name)).expect(name);
        assert!(text.contains(".SH DESCRIPTION"), "{name}: {text}");
        text
    };
    assert!(has("funk.1").contains("Exit codes"));
    for command in commands().iter().filter(|it| *it != "help") {
        has(&format!("funk-{command}.1"));
    }
    let program = environment::file("REFUNCTIOND");
    let page = run(program.to_str().expect("UTF-8"), &["--man"]).text;
    assert!(page.contains(".TH refunctiond 8"), "{page}");
    assert!(page.contains("check\\-config"), "{page}");
    // What roff itself says of them.
    if Path::new("/usr/bin/groff").exists() {
        fs::write(folder.0.join("refunctiond.8"), page).expect("written");
        for name in ["funk.1", "funk-create.1", "refunctiond.8"] {
            let file = folder.0.join(name);
            let file = file.to_str().expect("UTF-8");
            let said = run("groff", &["-ww", "-z", "-man", "-Tutf8", file]);
            assert_eq!(said.errors, "", "{name}");
        }
    }
}
