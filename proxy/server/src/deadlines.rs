//! How long one try at an endpoint may take.
//!
//! Three clocks bound it: connecting, the response's head (`per_try`), and each read after. The library has one deadline for
//! every read. With HTTP/1 endpoints [`crate::watch::Watch`] keeps the clock of the head beside it; over HTTP/2, where that cannot end a try, the one
//! deadline has to serve for both.

use std::time::Duration;

use portolan_model::plan::Action;

use crate::context::{Context, FOREVER};

/// The deadlines of a try.
pub(crate) struct Deadlines {
    /// Until there is a connection.
    pub(crate) connect: Duration,
    /// From there to the response's head.
    pub(crate) per_try: Duration,
    /// For each of the library's reads; `None` where [`crate::watch::Watch`] alone judges.
    pub(crate) read: Option<Duration>,
}

impl Deadlines {
    /// Those of a request's next try. `events`: whether the client asked for server-sent events.
    pub(crate) fn of(ctx: &Context, action: &Action, http1: bool, events: bool) -> Self {
        let policy = &action.policy;
        let left = ctx.remaining();
        let streams = ctx.is_grpc || !http1 && events;
        let per_try = match action.timeouts.as_ref().and_then(|timeouts| timeouts.backend_request) {
            Some(limit) if limit.is_zero() => FOREVER,
            Some(limit) => limit,
            // A stream's first message may be long in coming, and its response's head with it.
            None if streams => policy.per_try.max(policy.idle),
            None => policy.per_try,
        };
        let read = match (http1, ctx.paced) {
            // While the request's body goes up nothing is read, however well it goes.
            (true, true) => None,
            (true, false) => Some(policy.idle),
            (false, true) => ctx.end_by.map(|_| left),
            (false, false) if ctx.is_grpc => Some(policy.idle.min(per_try).min(left)),
            (false, false) if streams => Some(policy.idle.min(left)),
            (false, false) => Some(per_try.min(left)),
        };
        Self { connect: policy.connect.min(per_try).min(left), per_try, read }
    }
}
