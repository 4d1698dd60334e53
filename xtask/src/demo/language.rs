//! The two tenants, in the languages that the base images run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::shell;
use crate::workspace::Workspace;

/// A base image and what is shown with it.
pub(super) struct Language {
    /// As `--runtime` and the image are called.
    pub(super) name: &'static str,
    /// Tenant A's function, which leaves a card number in five places, and when called
    /// without one does what tenant B's does.
    pub(super) tenant_a: &'static str,
    /// Tenant B's, which looks for it.
    tenant_b: &'static str,
    /// One that adds numbers, to be measured with.
    sum: &'static str,
    is_compiled: bool,
}

/// A function, as arguments of `funk function`.
pub(super) type Function = Vec<String>;

/// What is loaded, one after the other.
pub(super) struct Functions {
    /// Tenant A's with tenant B's code beside it.
    pub(super) both: Function,
    pub(super) tenant_b: Function,
    pub(super) sum: Function,
}

const LANGUAGES: &[Language] = &[
    Language {
        name: "python",
        tenant_a: include_str!("tenant_a.py"),
        tenant_b: include_str!("tenant_b.py"),
        sum: "def main(args):\n    return {\"sum\": sum(args[\"numbers\"])}\n",
        is_compiled: false,
    },
    script("javascript"),
    script("node"),
    Language {
        name: "java",
        tenant_a: include_str!("TenantA.java"),
        tenant_b: include_str!("TenantB.java"),
        sum: include_str!("Sum.java"),
        is_compiled: true,
    },
];

const fn script(name: &'static str) -> Language {
    Language {
        name,
        tenant_a: include_str!("tenant_a.js"),
        tenant_b: include_str!("tenant_b.js"),
        sum: "exports.main = ({ numbers }) => ({ sum: numbers.reduce((a, b) => a + b) });\n",
        is_compiled: false,
    }
}

/// What `--runtime` asks for.
pub(super) fn asked_for(name: &str) -> Result<Vec<&'static Language>> {
    let chosen: Vec<_> = LANGUAGES
        .iter()
        .filter(|language| name == "all" || language.name == name)
        .collect();
    if chosen.is_empty() {
        let names: Vec<_> = LANGUAGES.iter().map(|language| language.name).collect();
        bail!(
            "there is no runtime {name:?}; there is: all, {}",
            names.join(", ")
        );
    }
    Ok(chosen)
}

impl Language {
    /// The functions, compiled where they have to be.
    pub(super) fn functions(&self, workspace: &Workspace) -> Result<Functions> {
        if !self.is_compiled {
            let source = |text: String| vec!["-f".to_owned(), text];
            return Ok(Functions {
                // The last `main` counts.
                both: source(format!("{}\n\n{}", self.tenant_b, self.tenant_a)),
                tenant_b: source(self.tenant_b.into()),
                sum: source(self.sum.into()),
            });
        }
        let directory = workspace.demo();
        if directory.exists() {
            fs::remove_dir_all(&directory)
                .with_context(|| format!("removing {}", directory.display()))?;
        }
        fs::create_dir_all(&directory)
            .with_context(|| format!("making {}", directory.display()))?;
        let source = |class: &str, text: &str| -> Result<PathBuf> {
            let file = directory.join(format!("{class}.java"));
            fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
            Ok(file)
        };
        let sources = [
            source("TenantA", self.tenant_a)?,
            source("TenantB", self.tenant_b)?,
            source("Sum", self.sum)?,
        ];
        shell::run(
            Command::new("javac")
                .args(["--release", "17", "-d"])
                .arg(&directory)
                .args(sources),
        )?;
        Ok(Functions {
            both: jar(&directory, "both", &["TenantA", "TenantB"])?,
            tenant_b: jar(&directory, "tenant_b", &["TenantB"])?,
            sum: jar(&directory, "sum", &["Sum"])?,
        })
    }
}

/// A jar of these classes, of which the first has the entry.
fn jar(directory: &Path, name: &str, classes: &[&str]) -> Result<Function> {
    let file = directory.join(format!("{name}.jar"));
    shell::run(
        Command::new("jar")
            .current_dir(directory)
            .arg("--create")
            .arg("--file")
            .arg(&file)
            .args(classes.iter().map(|class| format!("{class}.class"))),
    )?;
    let file = file.into_os_string().into_string();
    let file = file.ok().context("the name of a jar is no text")?;
    let class = (*classes.first().context("a jar of no classes")?).to_owned();
    Ok(vec!["-f".into(), file, "--main".into(), class])
}
