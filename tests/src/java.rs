//! Java for the tests: the adapter's jar, and functions compiled from source.
//!
//! Both are compiled by the host's javac when a test needs them, each version once: the
//! directory is named after what is in it.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::environment;
use crate::supervisor::Supervisor;

/// The adapter's sources.
const ADAPTER: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../language-adapters/java/src/main/java"
);

/// Where Debian has the real library that OpenWhisk's actions are written with.
const GSON: &str = "/usr/share/java/gson.jar";

/// Where the compiled things are kept, and files that more than one test process writes are
/// moved to when they are whole.
fn kept() -> PathBuf {
    environment::kept().join("java")
}

/// A name for what is to become `path` when it is whole, which no other test uses.
fn unfinished(path: &Path) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    path.with_extension(format!("{}-{number}", std::process::id()))
}

/// A supervisor that runs Java functions.
#[must_use]
#[track_caller]
pub fn start(arguments: &[&str]) -> Supervisor {
    start_with(arguments, |_| {})
}

/// As [`start`], with whatever else is to be set.
#[must_use]
#[track_caller]
pub fn start_with(arguments: &[&str], set: impl FnOnce(&mut Command)) -> Supervisor {
    Supervisor::start_with(&[&["--runtime", "java"], arguments].concat(), |command| {
        command.env("FUNCTION_JAVA_ADAPTER", adapter());
        set(command);
    })
}

/// The adapter's jar, unless the environment names another.
pub fn adapter() -> &'static Path {
    static JAR: OnceLock<PathBuf> = OnceLock::new();
    JAR.get_or_init(|| {
        if let Some(another) = std::env::var_os("FUNCTION_JAVA_ADAPTER") {
            return another.into();
        }
        let sources = sources_under(Path::new(ADAPTER));
        let classes = compile(&sources);
        let jar = classes.with_extension("jar");
        if !jar.is_file() {
            let unfinished = unfinished(&jar);
            archive(
                &unfinished,
                &["--main-class", "refunction.Main"],
                &classes,
                &[".".into()],
            );
            fs::rename(&unfinished, &jar).expect("keeping the adapter's jar");
        }
        jar
    })
}

/// All Java sources in this directory and below.
#[must_use]
pub fn sources_under(directory: &Path) -> Vec<PathBuf> {
    let mut sources = Vec::new();
    let entries = fs::read_dir(directory)
        .unwrap_or_else(|error| panic!("listing {}: {error}", directory.display()));
    for entry in entries {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources.extend(sources_under(&path));
        } else if path.extension().is_some_and(|it| it == "java") {
            sources.push(path);
        }
    }
    sources.sort();
    sources
}

/// Compiles these together; the directory of their classes.
///
/// # Panics
/// There is no compiler, or it refuses them.
#[must_use]
pub fn compile(sources: &[PathBuf]) -> PathBuf {
    try_compile(sources).unwrap_or_else(|printed| panic!("{sources:?}: {printed}"))
}

/// As [`compile`], or what the compiler printed.
fn try_compile(sources: &[PathBuf]) -> Result<PathBuf, String> {
    let mut hasher = DefaultHasher::new();
    for source in sources {
        source.hash(&mut hasher);
        let text = fs::read(source);
        text.unwrap_or_else(|error| panic!("{}: {error}", source.display()))
            .hash(&mut hasher);
    }
    let classes = kept().join(format!("{:016x}", hasher.finish()));
    if classes.is_dir() {
        return Ok(classes);
    }
    let unfinished = unfinished(&classes);
    run(Command::new("javac")
        .args([
            "--release",
            "17",
            "-encoding",
            "UTF-8",
            "-g",
            "-classpath",
            GSON,
            "-d",
        ])
        .arg(&unfinished)
        .args(sources))?;
    match fs::rename(&unfinished, &classes) {
        // Another test was faster.
        Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => {
            fs::remove_dir_all(&unfinished).expect("removing what is there already");
        }
        moved => moved.expect("keeping the classes"),
    }
    Ok(classes)
}

/// The class file of a text that holds one class; nothing if the compiler refuses it.
///
/// # Panics
/// There is no compiler.
#[must_use]
pub fn compile_text(text: &str) -> Option<Vec<u8>> {
    let class = classes_of(text)?.join("Main.class");
    Some(fs::read(class).expect("a class called Main"))
}

/// Where the class file of a text that holds the class `Main` is; nothing if the compiler
/// refuses it.
///
/// # Panics
/// There is no compiler.
#[must_use]
pub fn classes_of(text: &str) -> Option<PathBuf> {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    let directory = kept().join(format!("text-{:016x}", hasher.finish()));
    let source = directory.join("Main.java");
    if !source.is_file() {
        fs::create_dir_all(&directory).expect("a directory");
        let unfinished = unfinished(&source);
        fs::write(&unfinished, text).expect("the source");
        fs::rename(&unfinished, &source).expect("keeping the source");
    }
    try_compile(&[source]).ok()
}

/// Makes a jar of these entries of a directory.
///
/// # Panics
/// It could not be made.
pub fn archive(jar: &Path, options: &[&str], directory: &Path, entries: &[String]) {
    run(Command::new("jar")
        .args(["--create", "--file"])
        .arg(jar)
        .args(options)
        .arg("-C")
        .arg(directory)
        .args(join_directory(directory, entries)))
    .expect("a jar");
}

/// `-C` holds for the one entry that follows it.
fn join_directory(directory: &Path, entries: &[String]) -> Vec<String> {
    let directory = directory.display().to_string();
    let mut arguments = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        if index > 0 {
            arguments.extend(["-C".to_owned(), directory.clone()]);
        }
        arguments.push(entry.clone());
    }
    arguments
}

/// The library for JSON that OpenWhisk's actions use.
///
/// # Panics
/// It is not installed.
#[must_use]
pub fn gson() -> &'static Path {
    let path = Path::new(GSON);
    assert!(
        path.is_file(),
        "{GSON} is not there: install libgoogle-gson-java"
    );
    path
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}; install openjdk-17-jdk-headless"));
    if output.status.success() {
        return Ok(());
    }
    Err(format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    ))
}
