//! The calls that are looked at, and the pods that they are looked at for.

use std::collections::HashMap;

/// A pod's annotation that makes its containers function containers.
const ANNOTATION: &str = "refunction";

/// A call that the proxy looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Touched {
    CreateContainer,
    StartContainer,
    StopContainer,
    RemoveContainer,
    RemovePodSandbox,
}

impl Touched {
    /// By a request's path. Both versions of the CRI have the same messages.
    pub(super) fn of(path: &str) -> Option<Self> {
        let method = path
            .strip_prefix("/runtime.v1.RuntimeService/")
            .or_else(|| path.strip_prefix("/runtime.v1alpha2.RuntimeService/"))?;
        Some(match method {
            "CreateContainer" => Self::CreateContainer,
            "StartContainer" => Self::StartContainer,
            "StopContainer" => Self::StopContainer,
            "RemoveContainer" => Self::RemoveContainer,
            "RemovePodSandbox" => Self::RemovePodSandbox,
            _ => return None,
        })
    }
}

/// Whether a pod's annotations name one of its containers: `true` is all of them,
/// otherwise it is a list of names between commas.
pub(super) fn is_annotated(annotations: &HashMap<String, String>, container: &str) -> bool {
    match annotations.get(ANNOTATION).map(|value| value.trim()) {
        None | Some("" | "false") => false,
        Some("true") => true,
        Some(names) => names.split(',').any(|name| name.trim() == container),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_calls_of_either_version_are_touched_and_no_other() {
        for version in ["v1", "v1alpha2"] {
            let path = format!("/runtime.{version}.RuntimeService/CreateContainer");
            assert_eq!(Touched::of(&path), Some(Touched::CreateContainer));
        }
        for path in [
            "/runtime.v1.RuntimeService/ListContainers",
            "/runtime.v1.RuntimeService/CreateContainer2",
            "/runtime.v2.RuntimeService/CreateContainer",
            "/runtime.v1.ImageService/StartContainer",
            "CreateContainer",
            "",
        ] {
            assert_eq!(Touched::of(path), None, "{path}");
        }
    }

    #[test]
    fn an_annotation_names_all_containers_or_some() {
        let asks = |value: &str, container: &str| {
            is_annotated(
                &HashMap::from([("refunction".into(), value.into())]),
                container,
            )
        };
        assert!(asks("true", "a") && asks(" true ", "b"));
        assert!(asks("a", "a") && asks("b, a", "a"));
        assert!(!asks("ab", "a") && !asks("", "a") && !asks("false", "a"));
        assert!(!is_annotated(&HashMap::new(), "a"));
    }
}
