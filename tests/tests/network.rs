//! Containers with a network of the host's CNI plugins, and those without: what they
//! reach, and that nothing is left of it.

use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;

use refunction_tests::host::Host;
use refunction_tests::process;
use serde_json::{Value, json};

/// Where Debian has the plugins.
const PLUGINS: &str = "/usr/lib/cni";

/// Says whom it reaches, and what it sees of the network.
const LOOK: &str = "
import os, socket
def main(args):
    try:
        with socket.create_connection((args['address'], args['port']), timeout=5) as it:
            heard = it.makefile().readline()
    except OSError as error:
        heard = 'error: ' + str(error)
    return {'heard': heard, 'interfaces': sorted(name for _, name in socket.if_nameindex()),
            'hosts': open('/etc/hosts').read(), 'resolv': open('/etc/resolv.conf').read(),
            'mtu': open('/sys/class/net/eth0/mtu').read().strip() if os.path.exists('/sys/class/net/eth0') else None,
            'own': socket.gethostbyname(socket.gethostname())}
";

/// Removes what a test that failed left in the host's tables.
const RULES: &str = r#"
for chain in $(iptables-save -t nat | sed -n "/$1/s/^-A \(CNI-[0-9a-f]*\) .*/\1/p" | sort -u); do
    place=$(iptables -t nat -nL POSTROUTING --line-numbers | awk -v chain="$chain" '$2 == chain { print $1 }')
    iptables -t nat -D POSTROUTING "$place"
    iptables -t nat -F "$chain"
    iptables -t nat -X "$chain"
done
"#;

/// A bridge that is this test's own, with its addresses.
struct Bridge {
    name: String,
    network: [u8; 3],
    directory: PathBuf,
}

impl Bridge {
    fn new(number: u8) -> Self {
        let pid = std::process::id();
        let directory = std::env::temp_dir().join(format!("refunction-cni-{pid}-{number}"));
        fs::create_dir_all(directory.join("net.d")).expect("a directory of its own");
        let [high, low] = [
            (pid >> 6).to_le_bytes()[0],
            pid.to_le_bytes()[0] << 2 | number,
        ];
        Self {
            // An interface's name may have 15 characters.
            name: format!("rf{pid}-{number}"),
            network: [10, high, low],
            directory,
        }
    }

    /// Describes it, with room for so many containers.
    fn describe(&self, containers: u8) {
        let [a, b, c] = self.network;
        let conflist = json!({
            "cniVersion": "1.0.0",
            "name": self.name,
            "plugins": [{
                "type": "bridge",
                "bridge": self.name,
                "isGateway": true,
                "ipMasq": true,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{
                        "subnet": format!("{a}.{b}.{c}.0/24"),
                        "rangeStart": format!("{a}.{b}.{c}.2"),
                        "rangeEnd": format!("{a}.{b}.{c}.{}", 1 + containers),
                    }]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                    "dataDir": self.directory.join("leases"),
                },
                "dns": {"nameservers": ["192.0.2.53"], "search": ["example.org"]},
            }, {"type": "tuning", "mtu": 1400}],
        });
        let path = self.directory.join("net.d/10-bridge.conflist");
        fs::write(path, conflist.to_string()).expect("written");
    }

    fn host(&self) -> Host {
        let conf = self.directory.join("net.d");
        let conf = conf.to_str().expect("UTF-8");
        let bin = ["--cni-bin-dir", "/nonexistent", "--cni-bin-dir", PLUGINS];
        let host =
            Host::start_with(&[&["--network", "cni", "--cni-conf-dir", conf][..], &bin].concat());
        host.import(&["python"]);
        host
    }

    /// The host's own address in it.
    fn address(&self) -> Ipv4Addr {
        let [a, b, c] = self.network;
        Ipv4Addr::new(a, b, c, 1)
    }

    /// What containers are given, or were.
    fn traces(&self, host: &Host) -> Vec<String> {
        let [a, b, c] = self.network;
        let network = format!("{a}.{b}.{c}.");
        let mut found = names(&Path::new("/sys/class/net").join(&self.name).join("brif"));
        let leases = names(&self.directory.join("leases").join(&self.name));
        found.extend(leases.into_iter().filter(|it| it.starts_with(&network)));
        found.extend(names(&host.root().join("network")));
        let rules = Command::new("iptables-save")
            .output()
            .expect("iptables-save");
        let rules = String::from_utf8_lossy(&rules.stdout).into_owned();
        let own = rules
            .lines()
            .filter(|it| it.contains(&network) || it.contains(&self.name));
        found.extend(own.map(str::to_owned));
        found
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        let gone = Command::new("ip")
            .args(["link", "del", &self.name])
            .status();
        if !gone.is_ok_and(|it| it.success()) {
            eprintln!("there was no bridge {}", self.name);
        }
        if std::thread::panicking() {
            let cleaned = Command::new("sh")
                .args(["-c", RULES, "sh", &self.name])
                .status();
            eprintln!("removing its rules: {cleaned:?}");
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.collect()
}

/// Greets whoever connects; its port.
fn server(address: Ipv4Addr) -> u16 {
    let listener = TcpListener::bind((address, 0)).expect("an address of the bridge's");
    let port = listener.local_addr().expect("its address").port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let peer = stream.peer_addr().expect("its peer").ip();
            writeln!(stream, "hello {peer}").expect("sent");
        }
    });
    port
}

fn look(host: &Host, id: &str, address: Ipv4Addr, port: u16) -> Value {
    host.load(id, LOOK);
    let asked = json!({"address": address.to_string(), "port": port}).to_string();
    host.request(id, &asked).ok()["value"].take()
}

#[test]
fn containers_reach_what_their_network_has_and_leave_nothing_in_it() {
    let bridge = Bridge::new(0);
    bridge.describe(200);
    let mut host = bridge.host();
    let first = host.create("first", &[]);
    let second = host.create("second", &[]);
    let port = server(bridge.address());
    let mut own = Vec::new();
    for id in [&first, &second] {
        for _ in 0..2 {
            let seen = look(&host, id, bridge.address(), port);
            let address = seen["own"].as_str().expect("an address").to_owned();
            assert_eq!(seen["heard"], format!("hello {address}\n"), "{seen}");
            assert_eq!(seen["interfaces"], json!(["eth0", "lo"]), "{seen}");
            // The second plugin's work.
            assert_eq!(seen["mtu"], "1400", "{seen}");
            assert_eq!(
                seen["resolv"],
                "nameserver 192.0.2.53\nsearch example.org\n"
            );
            assert!(address.starts_with(&format!("{}.{}.", bridge.network[0], bridge.network[1])));
            let restored = host.funk(&["restore", "-c", id]).ok();
            assert_eq!(restored["method"], "rewind", "{restored}");
            own.push(address);
        }
    }
    assert_ne!(own[0], own[2], "each has its own address");
    let traces = bridge.traces(&host);
    // A veth, a lease and a record each, and rules for masquerading.
    assert!(traces.len() > 6, "{traces:?}");

    host.funk(&["rm", &first]).ok();
    let left = bridge.traces(&host);
    assert!(left.len() < traces.len(), "{left:?}");
    assert_eq!(look(&host, &second, bridge.address(), port)["own"], own[2]);

    // One that died before takes its namespace with it, unless somebody holds that: then
    // the bridge plugin would leave its rules.
    host.ctr(&["tasks", "kill", "--signal", "SIGKILL", &second]);
    host.funk(&["rm", &second]).ok();
    assert_eq!(bridge.traces(&host), [""; 0]);
    host.assert_no_container_left();

    // One that the daemon removes as it ends.
    host.create("last", &[]);
    assert_eq!(host.stop(), Some(0));
    host.assert_ended();
    assert_eq!(bridge.traces(&host), [""; 0]);
}

#[test]
fn without_a_network_there_is_nobody_to_reach() {
    let bridge = Bridge::new(1);
    // The bridge is there, with somebody who listens; the container is not on it.
    let ip = |arguments: &[&str]| {
        let done = Command::new("ip").args(arguments).status();
        assert!(done.is_ok_and(|it| it.success()), "{arguments:?}");
    };
    ip(&["link", "add", &bridge.name, "type", "bridge"]);
    let address = format!("{}/24", bridge.address());
    ip(&["addr", "add", &address, "dev", &bridge.name]);
    ip(&["link", "set", &bridge.name, "up"]);
    let port = server(bridge.address());
    let host = Host::with_image();
    let id = host.create("alone", &[]);
    let seen = look(&host, &id, bridge.address(), port);
    assert_eq!(
        seen["heard"], "error: [Errno 101] Network is unreachable",
        "{seen}"
    );
    assert_eq!(seen["interfaces"], json!(["lo"]), "{seen}");
    assert_eq!(seen["resolv"], "", "{seen}");
    assert_eq!(seen["own"], "127.0.0.1", "{seen}");
    assert_eq!(bridge.traces(&host), [""; 0]);
}

#[test]
fn a_network_that_cannot_be_had_makes_no_container() {
    let bridge = Bridge::new(2);
    let mut host = bridge.host();
    let create = |host: &Host| {
        let id = host.id("refused");
        host.funk(&["create", "--image", "refunction/python", "--name", &id])
    };
    let conf = bridge.directory.join("net.d");
    let place = conf.to_str().expect("UTF-8");
    create(&host).fails(8, &["no CNI network", place, "--network none"]);
    let broken = conf.join("00-broken.conf");
    fs::write(&broken, "{").expect("written");
    create(&host).fails(8, &["00-broken.conf", "JSON"]);
    fs::write(&broken, r#"{"name": "n", "type": "absent"}"#).expect("written");
    create(&host).fails(8, &["\"absent\"", "/nonexistent", PLUGINS]);
    fs::remove_file(&broken).expect("removed");
    host.assert_no_container_left();
    assert_eq!(bridge.traces(&host), [""; 0]);

    // No address is free for the second; the plugin says so in its own words.
    bridge.describe(1);
    let first = host.create("first", &[]);
    let before = bridge.traces(&host);
    create(&host).fails(
        8,
        &[
            &bridge.name,
            "\"bridge\"",
            "ADD",
            "no IP addresses available",
        ],
    );
    assert_eq!(bridge.traces(&host), before);
    let listed = host.funk(&["list"]).ok();
    assert_eq!(
        listed["containers"].as_array().map(Vec::len),
        Some(1),
        "{listed}"
    );
    host.funk(&["rm", &first]).ok();
    host.assert_no_container_left();
    assert_eq!(bridge.traces(&host), [""; 0]);
    // And is free again.
    host.create("first", &[]);
    assert_eq!(host.stop(), Some(0));
    host.assert_ended();
    assert_eq!(bridge.traces(&host), [""; 0]);
}

#[test]
fn what_a_killed_daemon_attached_is_detached_by_the_next_or_by_a_purge() {
    let bridge = Bridge::new(3);
    bridge.describe(200);
    let mut host = bridge.host();
    let kept = host.create("kept", &[]);
    let gone = host.create("gone", &[]);
    let port = server(bridge.address());
    let own = look(&host, &kept, bridge.address(), port)["own"].take();
    let all = bridge.traces(&host).len();
    // Its network's description may be another by then.
    fs::write(bridge.directory.join("net.d/00-other.conf"), "{").expect("written");
    host.restart_killed(|host| {
        host.ctr(&["tasks", "kill", "--signal", "SIGKILL", &gone]);
        refunction_tests::eventually("the container is gone", || {
            host.ctr(&["tasks", "rm", &gone]).code == 0
        });
        assert_eq!(host.ctr(&["containers", "rm", &gone]).code, 0);
        // Its address is still taken, and its rules are there.
        assert!(bridge.traces(host).len() > all / 2 + 1);
    });
    assert_eq!(
        bridge.traces(&host).len(),
        all / 2,
        "{:?}",
        bridge.traces(&host)
    );
    assert_eq!(look(&host, &kept, bridge.address(), port)["own"], own);
    host.funk(&["rm", &kept]).ok();
    assert_eq!(bridge.traces(&host), [""; 0]);
    host.assert_no_container_left();
    assert!(process::status(host.daemon().pid, "Name").is_some());

    fs::remove_file(bridge.directory.join("net.d/00-other.conf")).expect("removed");
    host.create("last", &[]);
    assert!(!bridge.traces(&host).is_empty());
    host.kill();
    let purged = host.purge(&[]);
    assert_eq!(purged.code, 0, "{purged:?}");
    host.assert_purged();
    assert_eq!(bridge.traces(&host), [""; 0]);
}
