//! The floods: what each sends, and to which port.
//!
//! In:    a running node
//! Out:   a table of floods for `flood`
//! Calls: main, flood
//! Holds: connections and bytes are counted; nothing goes anywhere but to the node's ports on 127.0.0.1
//! Upstream: none

mod bodies;
mod connections;
mod patches;
mod readers;
mod requests;

use crate::flood::Flood;
use crate::target::Target;

fn nothing(_: &Target<'_>) -> anyhow::Result<()> {
    Ok(())
}

fn fine(_: &mut Target<'_>) -> anyhow::Result<Vec<String>> {
    Ok(Vec::new())
}

type Send = fn(&Target<'_>, &crate::flood::Span) -> anyhow::Result<String>;

const fn plain(name: &'static str, quick: bool, run: Send) -> Flood {
    Flood {
        name,
        quick,
        at_least: 0.0,
        prepare: nothing,
        run,
        after: fine,
    }
}

/// All of them.
pub(crate) const ALL: &[Flood] = &[
    plain("silent-10248", true, connections::silent_health),
    plain("silent-10255", false, connections::silent_read_only),
    plain("silent-10250", false, connections::silent_main),
    plain("silent-6443", true, connections::silent_api),
    plain("half-heads-10248", true, connections::half_health),
    plain("half-heads-10255", false, connections::half_read_only),
    plain("half-heads-10250", false, connections::half_main),
    plain("half-heads-6443", true, connections::half_api),
    plain("zero-window-10250", true, readers::zero_window_main),
    Flood {
        prepare: readers::many_pods,
        ..plain("zero-window-6443", false, readers::zero_window_api)
    },
    plain("pings-10250", false, readers::pings),
    plain("settings-10250", false, readers::settings),
    plain("continuation-10250", false, readers::continuation),
    plain("rapid-reset-10250", false, readers::rapid_reset),
    plain("pings-6443", false, readers::pings_api),
    plain("continuation-6443", false, readers::continuation_api),
    plain("rapid-reset-6443", true, readers::rapid_reset_api),
    plain("slow-bodies", true, bodies::slow),
    Flood {
        prepare: readers::many_pods,
        at_least: 8.0,
        ..plain("unread-lists", true, readers::unread_lists)
    },
    Flood {
        prepare: readers::many_pods,
        at_least: 8.0,
        ..plain("unread-watches", false, readers::unread_watches)
    },
    plain("patch-copies", true, patches::copies),
    Flood {
        after: patches::starts_again,
        ..plain("patch-depth-256", true, patches::depth_256)
    },
    Flood {
        after: patches::starts_again,
        ..plain("patch-depth-16384", true, patches::depth_16384)
    },
    plain("patch-9000", true, patches::nine_thousand),
    Flood {
        prepare: patches::large_pod,
        ..plain("patch-strategic", true, patches::strategic)
    },
    Flood {
        at_least: 15.0,
        ..plain("junk-tokens", true, requests::junk_tokens)
    },
    plain("events-2099", true, requests::events),
    plain("timeout-max", true, requests::timeouts),
    plain("huge-headers", true, requests::huge_headers),
    plain("requests-in-flight", false, requests::in_flight),
];
