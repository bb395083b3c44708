//! Whoever is slow, or gone, on either side: bounded in time and memory, told apart in the access log, nothing left behind.

use std::net::SocketAddr;

use nix::sys::socket::{setsockopt, sockopt};
use portolan_e2e::{Portolan, eventually};

#[path = "slow/clients.rs"]
mod clients;
#[path = "slow/leaving.rs"]
mod leaving;
#[path = "slow/resets.rs"]
mod resets;
#[path = "slow/upstreams.rs"]
mod upstreams;

const HOST: &str = "shop.paris.lb.test";

/// A route to one endpoint with a policy's timeouts.
fn fleet(endpoint: SocketAddr, timeouts: &str) -> String {
    portolan_e2e::cluster("paris", "")
        + &portolan_e2e::app("paris", "shop", &[endpoint])
        + &format!(
            "---\napiVersion: portolan.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {{name: times, namespace: tenant-paris}}\nspec:\n  \
             targetRefs: [{{kind: HTTPLoadBalancer, name: shop}}]\n  timeouts: {timeouts}\n"
        )
}

/// The same over HTTP/2.
fn fleet_http2(endpoint: SocketAddr, timeouts: &str) -> String {
    fleet(endpoint, timeouts).replace("  endpoints:\n", "  protocol: HTTP2\n  endpoints:\n")
}

/// The next close of this socket is a reset.
fn reset_on_close(stream: &std::net::TcpStream) {
    setsockopt(stream, sockopt::Linger, &nix::libc::linger { l_onoff: 1, l_linger: 0 }).expect("an option");
}

/// Waits until no client's connection is open.
fn nobody_left(portolan: &Portolan) {
    eventually("no connection is left", || {
        let open = |listener: &str| {
            portolan.metric(&format!("portolan_listener_connections{{listener=\"{listener}\"}}"))
        };
        (open("http") == Some(0.0) && open("https").unwrap_or(0.0) == 0.0).then_some(())
    });
}
