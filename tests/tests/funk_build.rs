//! Images of folders without a Dockerfile, as `funk build` makes them.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use refunction_tests::environment;
use refunction_tests::host::{self, Answer, Host};
use serde_json::json;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// What buildah needs where it runs in a container itself, and asks no registry.
const HERE: [&str; 6] = [
    "--",
    "--pull-never",
    "--isolation",
    "chroot",
    "--network",
    "host",
];

/// A folder, and a storage of images that nobody else uses. Both go with their owner.
struct Folder {
    path: PathBuf,
    place: PathBuf,
}

impl Folder {
    fn new(name: &str) -> Self {
        let name = format!("refunction-build-{name}-{}", std::process::id());
        let place = std::env::temp_dir().join(name);
        let path = place.join("folder");
        fs::create_dir_all(&path).expect("a folder");
        let storage = format!(
            "[storage]\ndriver = \"overlay\"\ngraphroot = \"{0}/storage\"\nrunroot = \"{0}/run\"\n",
            place.display()
        );
        fs::write(place.join("storage.conf"), storage).expect("written");
        Self { path, place }
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path.join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, text).expect("written");
    }

    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(&self.path)
            .env("CONTAINERS_STORAGE_CONF", self.place.join("storage.conf"));
        command
    }

    fn funk(&self, arguments: &[&str]) -> Answer {
        let mut command = self.command(environment::file("FUNK"));
        command.args(["--output", "json", "build"]).args(arguments);
        slowly(&mut command)
    }

    #[track_caller]
    fn buildah(&self, arguments: &[&str]) {
        let answer = slowly(self.command("buildah").args(arguments));
        assert_eq!(answer.code, 0, "{answer:?}");
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Working containers are mounted.
        if self.place.join("storage").exists() {
            let _ = slowly(self.command("buildah").args(["rm", "--all"]));
            let _ = slowly(self.command("buildah").args(["rmi", "--all", "--force"]));
        }
        let _ = fs::remove_dir_all(&self.place);
    }
}

/// Runs what installs packages, and may take longer than a command of funk's.
fn slowly(command: &mut Command) -> Answer {
    let output = command.output().expect("it can be started");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Answer {
        code: output.status.code().unwrap_or(-1),
        json: serde_json::from_str(&text).unwrap_or_default(),
        text,
        errors: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// A wheel of one module, so that pip asks nobody.
fn wheel(path: &Path) {
    let mut archive = ZipWriter::new(File::create(path).expect("a file"));
    let mut add = |name: &str, text: &str| {
        archive
            .start_file(name, SimpleFileOptions::default())
            .expect("a file");
        archive.write_all(text.as_bytes()).expect("written");
    };
    let about = "shop_prices-1.0.dist-info";
    add("shop_prices.py", "BREAD = 320\n");
    add(
        &format!("{about}/METADATA"),
        "Metadata-Version: 2.1\nName: shop-prices\nVersion: 1.0\n",
    );
    add(
        &format!("{about}/WHEEL"),
        "Wheel-Version: 1.0\nGenerator: a test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    );
    add(
        &format!("{about}/RECORD"),
        &format!("shop_prices.py,,\n{about}/METADATA,,\n{about}/WHEEL,,\n{about}/RECORD,,\n"),
    );
    archive.finish().expect("an archive");
}

#[test]
fn a_folder_becomes_an_image_that_runs() {
    let folder = Folder::new("python");
    folder.write(
        "app.py",
        "import os
from shop_prices import BREAD
from lib.names import NAME
calls = 0
def handler(event, context):
    global calls
    calls += 1
    files = sorted(name for name in os.listdir() if not name.startswith(('shop_prices', '__py')))
    return {'price': BREAD, 'name': NAME, 'calls': calls, 'files': files}
",
    );
    folder.write("lib/names.py", "NAME = 'bread'\n");
    folder.write(
        "requirements.txt",
        "./vendor/shop_prices-1.0-py3-none-any.whl\n",
    );
    folder.write(".env", "SECRET=hunter2\n");
    folder.write("server.key", "hunter2\n");
    fs::create_dir(folder.path.join("vendor")).expect("a folder");
    wheel(&folder.path.join("vendor/shop_prices-1.0-py3-none-any.whl"));
    let python = environment::image("python");
    folder.buildah(&[
        "pull",
        "--quiet",
        &format!("docker-archive:{}", python.display()),
    ]);

    let arguments = [&["-t", "me/price", "--builder", "buildah", "."], &HERE[..]].concat();
    let built = folder.funk(&arguments);
    assert!(
        built.errors.contains("left out: .env, server.key"),
        "{built:?}"
    );
    let built = built.ok();
    assert_eq!(
        built,
        json!({"image": "me/price", "builder": "buildah", "handler": "app.handler"})
    );

    let archive = folder.place.join("price.tar");
    let to = format!(
        "docker-archive:{}:docker.io/me/price:latest",
        archive.display()
    );
    folder.buildah(&["push", "--quiet", "me/price", &to]);
    let host = Host::start();
    let archive = archive.to_str().expect("UTF-8");
    host.funk(&["image", "import", archive]).ok();
    let id = host.create_from("me/price", "price", &[]);
    for _ in 0..3 {
        let answer = host.request(&id, "{}").ok();
        // Each finds it as it was imported.
        let expected = json!({"price": 320, "name": "bread", "calls": 1,
            "files": ["app.py", "lib", "requirements.txt", "vendor"]});
        assert_eq!(answer["value"], expected, "{answer}");
    }
    host.funk(&["rm", &id]).ok();
    host.assert_no_container_left();
}

#[test]
fn what_cannot_be_built_is_said_with_a_way_out() {
    let folder = Folder::new("errors");
    folder.write("app.py", "def handler(event, context): pass\n");
    // Nobody who could.
    let mut command = folder.command(environment::file("FUNK"));
    command
        .env("PATH", &folder.path)
        .args(["build", "-t", "me/fn"]);
    host::run(&mut command, b"").fails(8, &["docker", "buildah", "--print-dockerfile"]);
    // Nothing to build upon.
    let buildah = [
        "-t",
        "me/fn",
        "--builder",
        "buildah",
        ".",
        "--",
        "--pull-never",
    ];
    folder.funk(&buildah).fails(
        3,
        &["base image refunction/python", "images/README.md", "--base"],
    );
    folder.write("other.py", "def main(args): pass\n");
    fs::rename(folder.path.join("app.py"), folder.path.join("one.py")).expect("moved");
    folder
        .funk(&["-t", "x"])
        .fails(2, &["one.py, other.py", "--file"]);
    folder
        .funk(&["-t", "x", "nowhere"])
        .fails(2, &["nowhere is no folder"]);
    folder.write("Dockerfile", "FROM scratch\n");
    folder
        .funk(&["-t", "x", "--file", "one.py"])
        .fails(2, &["Dockerfile of its own", "docker build -t x"]);
}

#[test]
fn the_examples_need_no_dockerfile() {
    let examples = Path::new(ROOT).join("examples");
    for (name, arguments) in [
        ("python", &[][..]),
        ("javascript", &[]),
        ("node", &["--runtime", "node"]),
        ("lua", &[]),
    ] {
        let folder = examples.join(name);
        let mut command = Command::new(environment::file("FUNK"));
        command
            .args(["build", "--print-dockerfile"])
            .args(arguments)
            .arg(&folder);
        let printed = host::run(&mut command, b"");
        assert_eq!(printed.code, 0, "{printed:?}");
        let written = fs::read_to_string(folder.join("Dockerfile")).expect("a Dockerfile");
        // What they copy by name is all that is there.
        let but_for_copy = |text: &str| -> Vec<String> {
            let lines = text.lines().filter(|line| !line.starts_with("COPY "));
            lines.map(str::to_owned).collect()
        };
        assert_eq!(
            but_for_copy(&printed.text),
            but_for_copy(&written),
            "{name}"
        );
    }
    let readme = fs::read_to_string(examples.join("README.md")).expect("a README");
    let (_, shown) = readme
        .split_once("funk build --print-dockerfile examples/python\n")
        .expect("it is shown");
    let shown = shown
        .lines()
        .map(str::trim)
        .take(3)
        .collect::<Vec<_>>()
        .join("\n");
    let mut command = Command::new(environment::file("FUNK"));
    command
        .current_dir(ROOT)
        .args(["build", "--print-dockerfile", "examples/python"]);
    assert_eq!(host::run(&mut command, b"").text.trim(), shown);
}
