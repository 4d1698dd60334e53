//! What the worker of one slot is about.

use std::time::{Duration, Instant};

use refunction_protocol::{Request, RequestId};

use super::Client;
use super::front::Ended;
use super::streams::Joined;
use crate::front::{CallId, Extras};

/// What a worker was asked and has not answered.
pub(super) enum Awaited {
    /// The loading of the function; for itself, or so that a call can follow.
    Load { then: Option<Box<Call>> },
    /// The call.
    Value(Box<Call>),
    /// The rest of its answer, which comes in pieces: joined here, if its client does not
    /// take them one by one.
    Rest {
        call: Box<Call>,
        joined: Option<Joined>,
    },
}

pub(super) struct Call {
    pub(super) client: Client,
    pub(super) request: Request,
    pub(super) extras: Extras,
    /// When it is given up, and the limit that says so.
    pub(super) limit: Option<(Instant, Duration)>,
}

pub(super) struct InFlight {
    pub(super) client: Client,
    pub(super) awaited: Awaited,
    pub(super) limit: Option<(Instant, Duration)>,
}

impl InFlight {
    pub(super) fn request_id(&self) -> Option<RequestId> {
        match &self.awaited {
            Awaited::Load { then } => then.as_ref()?.request.id.clone(),
            Awaited::Value(call) | Awaited::Rest { call, .. } => call.request.id.clone(),
        }
    }

    /// True of a call, also of one that waits for its function to be loaded.
    pub(super) fn is_call(&self) -> bool {
        match &self.awaited {
            Awaited::Load { then } => then.is_some(),
            Awaited::Value(_) | Awaited::Rest { .. } => true,
        }
    }
}

/// What a slot's worker holds, does, and still has before it.
#[derive(Default)]
pub(super) struct Duty {
    /// The worker holds the function.
    pub(super) is_loaded: bool,
    /// A tenant's code ran in the worker.
    pub(super) is_used: bool,
    /// The function of the command was loaded into the worker before it is asked for.
    pub(super) is_primed: bool,
    /// Since when a call is over, and what it left is to be put back.
    pub(super) restore_due: Option<Instant>,
    pub(super) in_flight: Option<InFlight>,
    /// It broke its channel: until when its end, which says more, may show, and what is
    /// said if it does not.
    pub(super) broken: Option<(Instant, String)>,
    /// Who waits for a restore that has files to remove.
    pub(super) restoring: Option<Client>,
    /// A call by Lambda's conventions, whose report says how long its restore took.
    pub(super) unreported: Option<Ended>,
    /// When it was put back last, counted in restores of the whole container.
    pub(super) restored: u64,
}

impl Duty {
    /// The worker is another, or as if it were.
    pub(super) fn begin_anew(&mut self) {
        self.is_loaded = false;
        self.is_used = false;
        self.is_primed = false;
        self.restore_due = None;
        self.broken = None;
    }

    /// True if its answer is still to come, and can.
    pub(super) fn is_awaiting(&self) -> bool {
        self.in_flight.is_some() && self.broken.is_none()
    }

    /// True of an answer that goes on, and whose client takes it piece by piece.
    pub(super) fn sends_pieces(&self) -> bool {
        let awaited = self.in_flight.as_ref().map(|it| &it.awaited);
        matches!(awaited, Some(Awaited::Rest { joined: None, .. }))
    }

    /// True if it could be asked for something.
    pub(super) fn is_free(&self) -> bool {
        self.in_flight.is_none() && self.restore_due.is_none() && self.restoring.is_none()
    }

    /// True if it has a call in hand.
    pub(super) fn has_call(&self) -> bool {
        self.in_flight.as_ref().is_some_and(InFlight::is_call)
    }

    /// The call in hand, if it came over HTTP.
    pub(super) fn front_call(&self) -> Option<CallId> {
        match self.in_flight.as_ref()?.client {
            Client::Front(id) => Some(id),
            Client::Peer(_) | Client::Nobody => None,
        }
    }
}
