//! How many files the process may have open: each connection is one.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::warn;

/// How many connections to accept at a time: `wanted`, or what the limit of open files leaves beside the `ours` that the service
/// needs for itself, and at least half of it. The limit is raised first, as far as the process may.
pub fn connections(wanted: usize, ours: usize) -> usize {
    let room = left(raised(), ours);
    if room < wanted {
        warn!(connections = room, wanted, "the limit of open files allows fewer connections; raise it (ulimit -n, LimitNOFILE)");
    }
    wanted.min(room)
}

fn left(limit: usize, ours: usize) -> usize {
    limit.saturating_sub(ours).max(limit / 2)
}

fn raised() -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // Where it may not be raised, the old limit holds.
    let limit = if setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_ok() { maximum } else { current };
    limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX))
}
