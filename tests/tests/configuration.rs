//! The daemon's configuration file, as an operator meets it.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use refunction_tests::environment;
use refunction_tests::host::{self, Answer, Host};

struct File(PathBuf);

impl File {
    fn new(name: &str, text: &str) -> Self {
        let name = format!("refunction-{}-{name}.toml", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::write(&path, text).expect("written");
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("UTF-8")
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn refunctiond(arguments: &[&str]) -> Answer {
    host::run(
        Command::new(environment::file("REFUNCTIOND")).args(arguments),
        b"",
    )
}

#[test]
fn a_check_says_what_is_wrong_and_where() {
    let good = File::new("good", "[containerd]\nprivate = true\n");
    let checked = refunctiond(&["--check-config", good.path()]);
    assert_eq!(checked.code, 0, "{checked:?}");
    assert_eq!(checked.text, format!("{}: OK\n", good.path()));

    let misspelt = File::new("misspelt", "\n[containerd]\nprivat = true\n");
    let place = format!("{}:3: ", misspelt.path());
    refunctiond(&["--check-config", misspelt.path()]).fails(2, &[&place, "privat", "private"]);

    // All that contradicts itself at once.
    let nonsense = File::new(
        "nonsense",
        "[gateway]\nlisten = [\"0.0.0.0:80\"]\n[[pool]]\nimage = \"a\"\nmin = 2\nmax = 1\n",
    );
    let places = [2, 5].map(|line| format!("{}:{line}: ", nonsense.path()));
    let places = places.each_ref().map(String::as_str);
    refunctiond(&["--check-config", nonsense.path()]).fails(2, &places);
    // And with it there is no start.
    refunctiond(&["--config", nonsense.path()]).fails(2, &places);

    // All that is not there at once, whether the file says it or the command line.
    let absent = File::new(
        "absent",
        "[containerd]\naddress = \"/nonexistent/c.sock\"\n",
    );
    let place = format!("{}:2: containerd.address: ", absent.path());
    let network = ["--network", "cni", "--cni-conf-dir", "/nonexistent/net.d"];
    refunctiond(&[&["--check-config", absent.path()], &network[..]].concat())
        .fails(2, &[&place, "network.conf_dir: ", "/nonexistent/net.d"]);

    refunctiond(&["--config", "/nonexistent/x.toml"]).fails(2, &["/nonexistent/x.toml"]);
}

#[test]
fn a_daemon_goes_by_its_file_and_the_command_line_over_it() {
    let file = File::new(
        "served",
        // The tests say where its places are on the command line.
        "socket = \"/nonexistent/s\"\n[network]\nmode = \"cni\"\nconf_dir = \"/nonexistent/net.d\"\n",
    );
    let host = Host::start_with(&["--config", file.path()]);
    host.funk(&["create", "--image", "refunction/python"])
        .fails(8, &["/nonexistent/net.d"]);
    let host = Host::start_with(&["--config", file.path(), "--network", "none"]);
    host.funk(&["create", "--image", "refunction/python"])
        .fails(3, &["refunction/python"]);
}
