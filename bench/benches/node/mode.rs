//! The two ways to go from one function to the next.

use refunction_bench::Failure;
use refunction_bench::node::Node;

/// How a pool goes on after a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Containers are restored.
    Restore,
    /// Each container is for one function, kept for its next call, and removed when the place
    /// is needed. Containers are made when a call needs one.
    Cold,
}

pub const MODES: [Mode; 2] = [Mode::Restore, Mode::Cold];

impl Mode {
    pub fn name(self) -> &'static str {
        match self {
            Self::Restore => "restored",
            Self::Cold => "cold start",
        }
    }

    pub fn image(self, runtime: &str) -> &'static str {
        match runtime {
            "java" => "refunction/java",
            _ => "refunction/python",
        }
    }

    /// A node with a pool of so many slots.
    pub fn start(self, slots: usize, runtime: &str) -> Result<Node, Failure> {
        let image = self.image(runtime);
        let how = match self {
            Self::Restore => format!("min = {slots}\n"),
            Self::Cold => "min = 0\nspare = 0\nreuse = \"never\"\n".to_owned(),
        };
        let settings = format!(
            "[node]\nmax_containers = {slots}\n[[pool]]\nimage = {image:?}\nmax = {slots}\nmemory = \"256M\"\n{how}"
        );
        let node = Node::start(&settings, &[runtime])?;
        if self == Self::Restore {
            node.await_containers(slots);
        }
        Ok(node)
    }
}
