//! Pools: containers of one image and one size, and what is decided about them.

use std::time::Duration;

use refunction_protocol::Size;
use refunction_scheduler::{NodeSettings, PoolName, PoolSettings, Reuse};

use crate::config::{self, Config};
use crate::store::Definition;

/// What a pool's containers are made of.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PoolKey {
    /// The image's name, as functions give it: two spellings are two pools.
    pub image: String,
    /// Bytes that one container may hold, where a function asks for them; else the image's pool
    /// says how many.
    pub memory_bytes: Option<u64>,
}

/// Between an image and the bytes in a pool's name: no image's name has a space.
const SIZE: &str = " bytes=";

impl PoolKey {
    /// The pool of an image, with the size that the node has for it.
    #[must_use]
    pub fn new(image: impl Into<String>) -> Self {
        Self {
            image: image.into(),
            memory_bytes: None,
        }
    }

    /// Where a function runs.
    #[must_use]
    pub fn of(definition: &Definition) -> Self {
        Self {
            image: definition.image.clone(),
            memory_bytes: definition.memory_bytes,
        }
    }

    /// The name by which the scheduler and a container's label know it.
    #[must_use]
    pub fn name(&self) -> PoolName {
        match self.memory_bytes {
            None => self.image.as_str().into(),
            Some(bytes) => format!("{}{SIZE}{bytes}", self.image).into(),
        }
    }

    /// What a name was made of.
    #[must_use]
    pub fn parse(name: &str) -> Self {
        let sized = name.rsplit_once(SIZE);
        match sized.and_then(|(image, bytes)| Some((image, bytes.parse().ok()?))) {
            Some((image, bytes)) => Self {
                image: image.into(),
                memory_bytes: Some(bytes),
            },
            None => Self::new(name),
        }
    }
}

/// What the operator decides.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Over all pools.
    pub node: NodeSettings,
    /// Pools that are there whether a function needs them or not.
    pub pools: Vec<config::Pool>,
    /// How long a container keeps a function that does not say it.
    pub keep_warm: Duration,
    /// Bytes that stay available on the host; a part of them all if absent.
    pub min_available: Option<u64>,
}

impl From<&Config> for Settings {
    fn from(config: &Config) -> Self {
        let node = &config.node;
        Self {
            node: NodeSettings {
                memory: node.memory.map_or(u64::MAX, |it| it.0),
                containers: node.max_containers,
                creations: node.max_creations,
                queue: node.queue,
                queue_per_function: node.queue_per_function,
                longest_wait: node.longest_wait,
            },
            pools: config.pools.clone(),
            keep_warm: node.keep_warm,
            min_available: node.min_available.map(|it| it.0),
        }
    }
}

impl Settings {
    /// Whether the operator named this pool.
    pub(super) fn names(&self, pool: &PoolKey) -> bool {
        pool.memory_bytes.is_none() && self.pools.iter().any(|it| it.image == pool.image)
    }

    /// What containers of a pool are to be: as the operator has them for the image, of the size
    /// that a function wants. Without a word of the operator's none is kept without need.
    pub(super) fn of(&self, pool: &PoolKey) -> config::Pool {
        let named = self.pools.iter().find(|it| it.image == pool.image);
        let mut settings = named.cloned().unwrap_or_default();
        if !self.names(pool) {
            settings.min = 0;
        }
        if let Some(bytes) = pool.memory_bytes {
            settings.memory = Size(bytes);
        }
        settings
    }

    /// The same, as far as it is the scheduler's.
    pub(super) fn scheduled(&self, pool: &PoolKey) -> PoolSettings {
        let settings = self.of(pool);
        PoolSettings {
            minimum: settings.min,
            maximum: settings.max,
            memory: settings.memory.0,
            shrink_after: settings.shrink_after,
            grow_after: settings.grow_after,
            spare: settings.spare,
            reuse: match settings.reuse {
                config::Reuse::Always => Reuse::Always,
                config::Reuse::Never => Reuse::Never,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_what_it_was_made_of() {
        let plain = PoolKey::new("docker.io/refunction/python:1");
        let sized = PoolKey {
            memory_bytes: Some(256 << 20),
            ..plain.clone()
        };
        for pool in [plain, sized] {
            assert_eq!(PoolKey::parse(pool.name().as_str()), pool);
        }
    }

    #[test]
    fn a_function_s_own_size_is_a_pool_of_its_own() {
        let mut config = Config::default();
        config.pools.push(config::Pool {
            image: "python".into(),
            min: 3,
            max: 5,
            ..config::Pool::default()
        });
        let settings = Settings::from(&config);
        let named = PoolKey::new("python");
        assert_eq!(settings.scheduled(&named).minimum, 3);
        let sized = PoolKey {
            memory_bytes: Some(64 << 20),
            ..named
        };
        let of_sized = settings.scheduled(&sized);
        assert_eq!([of_sized.minimum, of_sized.maximum], [0, 5]);
        assert_eq!(of_sized.memory, 64 << 20);
        let unnamed = settings.scheduled(&PoolKey::new("java"));
        assert_eq!(unnamed.minimum, 0);
        assert_eq!(unnamed.memory, config::Pool::default().memory.0);
    }
}
