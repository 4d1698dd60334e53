//! Leases: the garbage collector leaves alone what was made under one, also
//! before anything refers to it.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use super::api::containerd::services::leases::v1::{CreateRequest, DeleteRequest};
use super::client::{Containerd, ContainerdError, Doing};

/// How long a lease lives that nobody releases: the daemon died meanwhile.
const LIFE: Duration = Duration::from_secs(3600);

/// What ours are called.
pub(crate) const PREFIX: &str = "refunction-";

/// A lease; what is made through [`containerd`](Self::containerd) is held.
pub(super) struct Lease {
    id: String,
    leased: Containerd,
}

impl Lease {
    pub(super) async fn take(containerd: &Containerd) -> Result<Self, ContainerdError> {
        let id = format!("{PREFIX}{}", uuid::Uuid::new_v4().simple());
        let expires = prost_types::Timestamp::from(SystemTime::now() + LIFE).to_string();
        containerd
            .leases()
            .create(CreateRequest {
                id: id.clone(),
                labels: HashMap::from([("containerd.io/gc.expire".to_owned(), expires)]),
            })
            .await
            .doing(|| "taking a lease".into())?;
        Ok(Self {
            leased: containerd.with_lease(&id)?,
            id,
        })
    }

    pub(super) fn containerd(&self) -> &Containerd {
        &self.leased
    }

    pub(super) async fn release(self) {
        let released = self
            .leased
            .leases()
            .delete(DeleteRequest {
                id: self.id,
                sync: false,
            })
            .await
            .doing(|| "releasing a lease".into());
        if let Err(error) = released {
            tracing::warn!(%error, "a lease ends by itself within the hour");
        }
    }
}
