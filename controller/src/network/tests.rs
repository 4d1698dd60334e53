use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

use serde_json::{Value, json};

use super::*;

/// A network of plugins that do what their names say.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn attachment(&self, version: &str, plugins: &[&str]) -> Attachment {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/network/plugin_for_tests.sh");
        let search = self.0.path().join("bin");
        fs::create_dir_all(&search).unwrap();
        for plugin in plugins.iter().filter(|it| **it != "absent") {
            symlink(&program, search.join(plugin)).unwrap();
        }
        let netns = self.0.path().join("netns");
        fs::write(&netns, "").unwrap();
        Attachment {
            container: "one".into(),
            unique: "one-abc".into(),
            owner: self.0.path().join("state"),
            netns,
            search: vec![self.0.path().join("empty"), search],
            network: Conflist {
                name: "net".into(),
                version: version.into(),
                plugins: plugins
                    .iter()
                    .map(|kind| json!({"type": kind, "own": 1}).as_object().unwrap().clone())
                    .collect(),
            },
            result: None,
        }
    }

    /// The calls: what was asked of which plugin, and with what.
    fn calls(&self) -> Vec<(String, Value)> {
        let text = fs::read_to_string(self.0.path().join("calls")).unwrap_or_default();
        text.lines()
            .map(|line| {
                let (head, input) = line.split_once(" one-abc eth0 ").expect(line);
                (head.to_owned(), serde_json::from_str(input).unwrap())
            })
            .collect()
    }

    fn asked(&self) -> Vec<String> {
        self.calls().into_iter().map(|call| call.0).collect()
    }

    /// The slow plugin and what it waited for.
    async fn assert_killed(&self) {
        let group = fs::read_to_string(self.0.path().join("group")).unwrap();
        let group = nix::unistd::Pid::from_raw(group.trim().parse().unwrap());
        let end = std::time::Instant::now() + Duration::from_secs(10);
        // Whoever adopts it reaps it, and tells nobody.
        while nix::sys::signal::killpg(group, None).is_ok() {
            assert!(std::time::Instant::now() < end, "{group} still runs");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn network(&self) -> Network {
        let settings = config::Network::default();
        Network::new(settings, self.0.path(), &self.0.path().join("state"))
    }
}

#[tokio::test]
async fn plugins_are_chained_and_undone_in_reverse() {
    let place = Place::new();
    let mut attachment = place.attachment("1.0.0", &["first", "second"]);
    let result = Plugins::new(&attachment).add().await.unwrap();
    assert_eq!(result["by"], "second");
    assert_eq!(files::addresses(&result), ["10.9.0.2"]);
    attachment.result = Some(result);
    Plugins::new(&attachment).del().await.unwrap();

    let calls = place.calls();
    let asked: Vec<&str> = calls.iter().map(|call| call.0.as_str()).collect();
    assert_eq!(
        asked,
        ["ADD first", "ADD second", "DEL second", "DEL first"]
    );
    for (_, input) in &calls {
        assert_eq!(input["name"], "net");
        assert_eq!(input["cniVersion"], "1.0.0");
        assert_eq!(input["own"], 1);
    }
    let before: Vec<&Value> = calls
        .iter()
        .map(|call| &call.1["prevResult"]["by"])
        .collect();
    assert_eq!(
        before,
        [
            &Value::Null,
            &json!("first"),
            &json!("second"),
            &json!("second")
        ]
    );
}

#[tokio::test]
async fn an_old_plugin_is_not_told_at_the_end_what_it_answered() {
    let place = Place::new();
    let mut attachment = place.attachment("0.3.1", &["first"]);
    attachment.result = Some(json!({}));
    Plugins::new(&attachment).del().await.unwrap();
    assert!(place.calls()[0].1.get("prevResult").is_none());
}

#[tokio::test]
async fn what_a_plugin_does_wrong_is_named() {
    for (plugin, words) in [
        (
            "full",
            &[
                "\"net\"",
                "\"full\"",
                "ADD",
                "code 11",
                "no room; all are taken",
            ][..],
        ),
        ("broken", &["\"broken\"", "exit status: 3", "a bug"]),
        ("mute", &["\"mute\"", "no result", "printed nothing"]),
        ("absent", &["\"absent\"", "/empty", "/bin"]),
        ("slow", &["\"slow\"", "5 s", "killed"]),
    ] {
        let place = Place::new();
        let attachment = place.attachment("1.0.0", &["first", plugin, "never"]);
        let failed = Plugins::new(&attachment)
            .waiting(Duration::from_secs(5))
            .add()
            .await
            .unwrap_err()
            .to_string();
        for word in words {
            assert!(failed.contains(word), "{word}: {failed}");
        }
        assert!(!place.asked().contains(&"ADD never".to_owned()));
        if plugin == "slow" {
            place.assert_killed().await;
        }
    }
}

#[tokio::test]
async fn what_cannot_be_undone_is_kept_and_tried_again() {
    let place = Place::new();
    let attachment = place.attachment("1.0.0", &["first", "stubborn", "last"]);
    let network = place.network();
    let record = network.record_of("one-abc");
    attachment.write(&record).unwrap();
    let failed = network.detach("one-abc").await.unwrap_err().to_string();
    assert!(failed.contains("not yet"), "{failed}");
    // The others were asked all the same.
    assert_eq!(place.asked(), ["DEL last", "DEL stubborn", "DEL first"]);
    assert_eq!(Attachment::read(&record).unwrap(), Some(attachment));

    fs::write(place.0.path().join("relent"), "").unwrap();
    network.detach("one-abc").await.unwrap();
    assert!(!record.exists());
    network.detach("one-abc").await.unwrap();
    assert_eq!(place.asked().len(), 6);
}

#[tokio::test]
async fn a_sweep_detaches_what_is_this_daemons_and_nobodys() {
    let place = Place::new();
    let network = place.network();
    let attachment = place.attachment("1.0.0", &["first"]);
    let record = network.record_of("one-abc");
    attachment.write(&record).unwrap();
    network.sweep(|id| id == "one").await;
    assert!(record.exists() && place.asked().is_empty());

    let another = Network::new(
        config::Network::default(),
        place.0.path(),
        Path::new("/run/another"),
    );
    another.sweep(|_| false).await;
    assert!(record.exists() && place.asked().is_empty());

    network.sweep(|_| false).await;
    assert!(!record.exists());
    assert_eq!(place.asked(), ["DEL first"]);
}

#[test]
fn the_hosts_own_network_is_no_containers() {
    let place = Place::new();
    let at = place.0.path().join("held");
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let refused = attachment::pin(&at, std::process::id()).unwrap_err();
    assert!(matches!(refused, NetworkError::NotItsOwn(_)), "{refused}");
    attachment::unpin(&at).unwrap();
    attachment::unpin(&at).unwrap();
    fs::remove_file(&at).unwrap();
}
