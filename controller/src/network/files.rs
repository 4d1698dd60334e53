//! What a container is told of names and addresses.

use std::fmt::Write;
use std::fs;
use std::net::IpAddr;

use serde_json::Value;

const HOST: &str = "/etc/resolv.conf";

/// Where systemd-resolved says whom it asks itself; the host's own file names only
/// a resolver on its loopback, which no container can reach.
const RESOLVED: &str = "/run/systemd/resolve/resolv.conf";

/// The addresses in a plugin's result, without the length of their network.
pub(super) fn addresses(result: &Value) -> Vec<String> {
    // Since version 0.3 a list; before, one of each kind.
    let listed = result["ips"].as_array().into_iter().flatten();
    listed
        .map(|ip| &ip["address"])
        .chain([&result["ip4"]["ip"], &result["ip6"]["ip"]])
        .filter_map(Value::as_str)
        .filter_map(|address| address.split('/').next())
        .map(str::to_owned)
        .collect()
}

/// `/etc/hosts` of a container with these addresses; with none it is at loopback.
pub(crate) fn hosts(id: &str, addresses: &[String]) -> String {
    if addresses.is_empty() {
        return format!("127.0.0.1 localhost {id}\n::1 localhost {id}\n");
    }
    let mut text = String::from("127.0.0.1 localhost\n::1 localhost\n");
    for address in addresses {
        let _ = writeln!(text, "{address} {id}");
    }
    text
}

/// `/etc/resolv.conf`: what the network says; where it says nothing, the host's.
pub(super) fn resolv_conf(result: &Value) -> String {
    let dns = &result["dns"];
    let words = |key: &str| -> Vec<&str> {
        let listed = dns[key].as_array().into_iter().flatten();
        listed.filter_map(Value::as_str).collect()
    };
    let servers = words("nameservers");
    if servers.is_empty() {
        return of_host(|path| fs::read_to_string(path).unwrap_or_default());
    }
    let mut text = String::new();
    for server in servers {
        let _ = writeln!(text, "nameserver {server}");
    }
    if let Some(domain) = dns["domain"].as_str().filter(|it| !it.is_empty()) {
        let _ = writeln!(text, "domain {domain}");
    }
    for key in ["search", "options"] {
        let words = words(key);
        if !words.is_empty() {
            let _ = writeln!(text, "{key} {}", words.join(" "));
        }
    }
    text
}

fn of_host(read: impl Fn(&str) -> String) -> String {
    let reachable = |path: &str| -> Option<String> {
        let text = read(path);
        let lines: Vec<&str> = text
            .lines()
            .filter(|line| server(line).is_none_or(|it| !it.is_loopback()))
            .collect();
        lines
            .iter()
            .any(|line| server(line).is_some())
            .then(|| lines.join("\n") + "\n")
    };
    reachable(HOST)
        .or_else(|| reachable(RESOLVED))
        .unwrap_or_default()
}

/// The name server that a line names.
fn server(line: &str) -> Option<IpAddr> {
    let mut words = line.split_whitespace();
    if words.next() != Some("nameserver") {
        return None;
    }
    // A zone may follow, as in fe80::1%eth0.
    words.next()?.split('%').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn addresses_are_found_in_results_of_every_version() {
        let new = json!({"ips": [{"address": "10.1.0.2/16"}, {"address": "fd00::2/64"}]});
        assert_eq!(addresses(&new), ["10.1.0.2", "fd00::2"]);
        let old = json!({"ip4": {"ip": "10.1.0.2/16"}});
        assert_eq!(addresses(&old), ["10.1.0.2"]);
        assert_eq!(addresses(&json!({})), [""; 0]);
    }

    #[test]
    fn a_name_is_at_the_containers_address() {
        let hosts = hosts("a", &["10.1.0.2".into()]);
        assert_eq!(hosts, "127.0.0.1 localhost\n::1 localhost\n10.1.0.2 a\n");
        assert!(super::hosts("a", &[]).contains("127.0.0.1 localhost a"));
    }

    #[test]
    fn the_network_says_who_resolves_names() {
        let result = json!({"dns": {"nameservers": ["10.1.0.1", "10.1.0.3"],
            "domain": "example.org", "search": ["a", "b"], "options": ["ndots:5"]}});
        assert_eq!(
            resolv_conf(&result),
            "nameserver 10.1.0.1\nnameserver 10.1.0.3\ndomain example.org\nsearch a b\noptions ndots:5\n"
        );
    }

    #[test]
    fn otherwise_it_is_the_hosts_where_a_container_can_reach_it() {
        let plain = of_host(|path| match path {
            HOST => "# ours\nnameserver 192.0.2.1\nnameserver 127.0.0.1\nsearch a\n".into(),
            _ => String::new(),
        });
        assert_eq!(plain, "# ours\nnameserver 192.0.2.1\nsearch a\n");
        let stub = of_host(|path| match path {
            HOST => "nameserver 127.0.0.53\n".into(),
            _ => "nameserver 192.0.2.2\n".into(),
        });
        assert_eq!(stub, "nameserver 192.0.2.2\n");
        assert_eq!(of_host(|_| "nameserver ::1\n".into()), "");
    }
}
