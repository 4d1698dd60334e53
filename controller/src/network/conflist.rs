//! Finding the network to join, as libcni does: the first file of the directory.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What files with a network in them are called.
const EXTENSIONS: [&str; 3] = ["conf", "conflist", "json"];

/// The versions of the specification whose results are understood, newest first.
const VERSIONS: [&str; 7] = [
    "1.1.0", "1.0.0", "0.4.0", "0.3.1", "0.3.0", "0.2.0", "0.1.0",
];

/// A network: plugins that are called one after the other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conflist {
    /// Its name.
    pub name: String,
    /// The version of the specification that it is written in.
    pub version: String,
    /// Each plugin's own configuration; `type` says which program it is.
    pub plugins: Vec<Map<String, Value>>,
}

impl Conflist {
    /// The programs that it needs: its plugins, and those of them that give addresses.
    pub(crate) fn programs(&self) -> impl Iterator<Item = &str> {
        self.plugins
            .iter()
            .flat_map(|plugin| {
                let addresses = plugin.get("ipam").and_then(|ipam| ipam.get("type"));
                [plugin.get("type"), addresses]
            })
            .flatten()
            .filter_map(Value::as_str)
    }
}

/// Why there is no network to join.
#[derive(Debug, thiserror::Error)]
pub enum ConflistError {
    /// The directory cannot be looked at.
    #[error("looking for a CNI network in {}: {source}", directory.display())]
    Directory {
        /// Which.
        directory: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is none.
    #[error(
        "there is no CNI network{} in {} (looked at {})",
        named(name.as_deref()), directory.display(), looked(files)
    )]
    None {
        /// The one that was asked for by name.
        name: Option<String>,
        /// Where it was looked for.
        directory: PathBuf,
        /// What was there instead, and why it is none.
        files: Vec<String>,
    },
    /// The first file is none.
    #[error("{}: {cause}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
}

fn named(name: Option<&str>) -> String {
    name.map_or_else(String::new, |name| format!(" {name:?}"))
}

fn looked(files: &[String]) -> String {
    if files.is_empty() {
        "*.conflist, *.conf and *.json: none".into()
    } else {
        files.join("; ")
    }
}

/// The network of this name; without one, that of the first file by name. A first
/// file that is broken is not passed over for the next: that would be a guess.
///
/// # Errors
/// There is none, or it is broken.
pub(crate) fn find(directory: &Path, name: Option<&str>) -> Result<Conflist, ConflistError> {
    let broken = |source| ConflistError::Directory {
        directory: directory.to_owned(),
        source,
    };
    let mut paths = Vec::new();
    match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(broken(error)),
        Ok(entries) => {
            for entry in entries {
                paths.push(entry.map_err(broken)?.path());
            }
        }
    }
    paths.retain(|path| {
        path.extension()
            .is_some_and(|it| EXTENSIONS.iter().any(|known| it == *known))
    });
    paths.sort();
    let mut files = Vec::new();
    for path in paths {
        let read = read(&path);
        let Some(name) = name else {
            return read.map_err(|cause| ConflistError::Unusable { path, cause });
        };
        let file = path.display();
        match read {
            Ok(network) if network.name == name => return Ok(network),
            Ok(network) => files.push(format!("{file}: {:?}", network.name)),
            Err(cause) => files.push(format!("{file}: {cause}")),
        }
    }
    Err(ConflistError::None {
        name: name.map(str::to_owned),
        directory: directory.to_owned(),
        files,
    })
}

fn read(path: &Path) -> Result<Conflist, String> {
    let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
    let Value::Object(mut file) =
        serde_json::from_str(&text).map_err(|error| format!("it is not JSON: {error}"))?
    else {
        return Err("it is not a JSON object".into());
    };
    let name = word(&file, "name").ok_or("it has no \"name\"")?;
    let version = version(&file)?;
    let plugins = if path.extension().is_some_and(|it| it == "conflist") {
        let Some(Value::Array(plugins)) = file.remove("plugins") else {
            return Err("it has no list of \"plugins\"".into());
        };
        plugins
            .into_iter()
            .map(|plugin| match plugin {
                Value::Object(plugin) => Ok(plugin),
                _ => Err("one of its plugins is not a JSON object"),
            })
            .collect::<Result<_, _>>()?
    } else {
        vec![file]
    };
    if plugins.is_empty() {
        return Err("its list of \"plugins\" is empty".into());
    }
    for plugin in &plugins {
        match word(plugin, "type") {
            // It is looked for in the plugins' directories and nowhere else.
            Some(kind) if !kind.contains('/') && kind != ".." => {}
            Some(kind) => return Err(format!("a plugin cannot be called {kind:?}")),
            None => return Err("one of its plugins has no \"type\"".into()),
        }
    }
    Ok(Conflist {
        name,
        version,
        plugins,
    })
}

fn word(object: &Map<String, Value>, key: &str) -> Option<String> {
    object
        .get(key)
        .and_then(Value::as_str)
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
}

/// The version that the file names, or the newest known of those that it offers.
fn version(file: &Map<String, Value>) -> Result<String, String> {
    let offered: Vec<String> = match (word(file, "cniVersion"), file.get("cniVersions")) {
        (_, Some(Value::Array(offered))) => offered
            .iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .chain(word(file, "cniVersion"))
            .collect(),
        (Some(one), _) => vec![one],
        // What the specification says of a file that says nothing.
        (None, _) => vec!["0.1.0".into()],
    };
    VERSIONS
        .into_iter()
        .find(|known| offered.iter().any(|it| it == known))
        .map(str::to_owned)
        .ok_or_else(|| {
            format!(
                "its \"cniVersion\" is {}; known are {}",
                offered.join(", "),
                VERSIONS.join(", ")
            )
        })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(directory.path().join(name), text).unwrap();
        }
        directory
    }

    const LIST: &str = r#"{"cniVersion": "1.0.0", "name": "listed",
        "plugins": [{"type": "bridge"}, {"type": "portmap"}]}"#;
    const ONE: &str = r#"{"cniVersion": "0.3.1", "name": "single", "type": "ptp", "mtu": 1400}"#;

    #[test]
    fn the_first_file_by_name_is_the_network() {
        let place = directory(&[
            ("20-a.conflist", LIST),
            ("10-b.conf", ONE),
            ("00-c.txt", ""),
        ]);
        let network = find(place.path(), None).unwrap();
        assert_eq!(network.name, "single");
        assert_eq!(network.version, "0.3.1");
        assert_eq!(network.plugins[0]["type"], "ptp");
        assert_eq!(network.plugins[0]["mtu"], 1400);
        fs::remove_file(place.path().join("10-b.conf")).unwrap();
        let network = find(place.path(), None).unwrap();
        assert_eq!(network.name, "listed");
        assert_eq!(network.plugins.len(), 2);
    }

    #[test]
    fn a_name_chooses_another_and_passes_over_broken_files() {
        let place = directory(&[("1.conflist", "{"), ("2.json", ONE), ("3.conflist", LIST)]);
        assert_eq!(find(place.path(), Some("listed")).unwrap().name, "listed");
        let none = find(place.path(), Some("absent")).unwrap_err().to_string();
        for word in ["\"absent\"", "1.conflist", "JSON", "\"single\""] {
            assert!(none.contains(word), "{word}: {none}");
        }
    }

    #[test]
    fn what_is_no_network_says_why() {
        let missing = find(Path::new("/nonexistent"), None).unwrap_err();
        assert!(missing.to_string().contains("/nonexistent"), "{missing}");
        for (file, text, word) in [
            ("a.conflist", "[]", "object"),
            ("a.conflist", "{", "JSON"),
            ("a.conflist", r#"{"plugins": []}"#, "name"),
            ("a.conflist", r#"{"name": "n"}"#, "plugins"),
            ("a.conflist", r#"{"name": "n", "plugins": []}"#, "empty"),
            ("a.conflist", r#"{"name": "n", "plugins": [{}]}"#, "type"),
            ("a.conf", r#"{"name": "n", "type": "../sh"}"#, "../sh"),
            (
                "a.conf",
                r#"{"name": "n", "type": "x", "cniVersion": "9"}"#,
                "9",
            ),
        ] {
            let place = directory(&[(file, text)]);
            let error = find(place.path(), None).unwrap_err().to_string();
            assert!(error.contains(file) && error.contains(word), "{error}");
        }
    }

    #[test]
    fn of_several_versions_the_newest_known_is_spoken() {
        let version = |file: Value| version(file.as_object().unwrap());
        assert_eq!(version(json!({})), Ok("0.1.0".into()));
        let several = json!({"cniVersion": "0.4.0", "cniVersions": ["0.4.0", "1.0.0", "7.0.0"]});
        assert_eq!(version(several), Ok("1.0.0".into()));
    }
}
