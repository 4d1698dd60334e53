//! The adapter for Java without one of its handlers: another jar, because what is left out is
//! in its source.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use refunction_java::sabotage::LINES;

use super::Notes;
use crate::shell;

/// From where the workspace is.
const SOURCES: &str = "language-adapters/java/src/main/java";

/// Makes it, once; says in the handler's note that it was asked for.
pub(super) fn jar(notes: &Notes, handler: &str) -> Result<PathBuf> {
    let jar = notes.join(&format!("{handler}.jar"));
    if jar.is_file() {
        return Ok(jar);
    }
    let directory = notes.join(&format!("{handler}.java"));
    let (sources, classes) = (directory.join("sources"), directory.join("classes"));
    copy(
        &Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("..")
            .join(SOURCES),
        &sources,
    )?;
    let (file, lines) = LINES
        .iter()
        .find(|(_, lines)| lines.handler == handler)
        .with_context(|| format!("{handler} has no lines in Java"))?;
    let path = sources.join("refunction").join(file);
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let count = text.matches(lines.with).count();
    ensure!(
        count == 1,
        "the lines of {handler} are {count} times in {file}"
    );
    fs::write(&path, text.replace(lines.with, lines.without))?;
    let mut files = Vec::new();
    list(&sources, &mut files)?;
    let mut compile = Command::new("javac");
    compile.args(["--release", "17", "-encoding", "UTF-8", "-d"]);
    shell::run(compile.arg(&classes).args(files))?;
    let mut archive = Command::new("jar");
    archive.args(["--create", "--main-class", "refunction.Main", "--file"]);
    shell::run(archive.arg(&jar).arg("-C").arg(&classes).arg("."))?;
    fs::write(notes.join(handler), "asked\n")?;
    Ok(jar)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| from.display().to_string())? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => copy(&entry.path(), &target)?,
            false => fs::copy(entry.path(), target).map(drop)?,
        }
    }
    Ok(())
}

fn list(directory: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        match path.is_dir() {
            true => list(&path, files)?,
            false => files.push(path),
        }
    }
    Ok(())
}
