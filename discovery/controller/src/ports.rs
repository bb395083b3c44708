//! Which ports should the proxies' `Service` have? One for each listener, and no others.
//!
//! Pure. A port that leads to a listener stays as it is, whatever number it has outside (80 for a listener on 8080, say) and whatever else
//! is said of it: a load balancer in front may depend on its node port.

use std::sync::Arc;

use k8s_openapi::api::core::v1::ServicePort;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use portolan_model::proxy::Listener;

/// The ports for these listeners; `None` where the Service has them already, or there is no listener to have one for.
pub(crate) fn wanted(listeners: &[Arc<Listener>], now: &[ServicePort]) -> Option<Vec<ServicePort>> {
    let leads_to = |port: &ServicePort| match &port.target_port {
        Some(IntOrString::Int(target)) => *target,
        // By name: that of a container's port, which is called as the listener is.
        Some(IntOrString::String(name)) => {
            let named = listeners.iter().find(|listener| *listener.name == **name);
            named.map_or(0, |listener| i32::from(listener.port.get()))
        }
        None => port.port,
    };
    let is_tcp = |port: &ServicePort| port.protocol.as_deref().is_none_or(|protocol| protocol == "TCP");
    let mut ports: Vec<ServicePort> = Vec::with_capacity(listeners.len());
    for listener in listeners {
        let target = i32::from(listener.port.get());
        if ports.iter().any(|port| leads_to(port) == target) {
            // Two listeners on one port, at different addresses.
            continue;
        }
        let known = now.iter().find(|port| is_tcp(port) && leads_to(port) == target);
        ports.push(known.cloned().unwrap_or_else(|| ServicePort {
            name: Some(listener.name.to_string()),
            port: target,
            target_port: Some(IntOrString::Int(target)),
            protocol: Some("TCP".into()),
            ..ServicePort::default()
        }));
    }
    let same = ports.len() == now.len() && ports.iter().all(|port| now.contains(port));
    (!ports.is_empty() && !same).then_some(ports)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU16;

    use portolan_model::proxy::Proxy;

    use super::*;

    fn listeners(ports: &[(&str, u16)]) -> Vec<Arc<Listener>> {
        let one = Listener::clone(&Proxy::fallback().listeners[0]);
        let listener = |&(name, port): &(&str, u16)| {
            Arc::new(Listener { name: name.into(), port: NonZeroU16::new(port).unwrap(), ..one.clone() })
        };
        ports.iter().map(listener).collect()
    }

    fn port(name: &str, port: i32, target: IntOrString, node_port: i32) -> ServicePort {
        ServicePort {
            name: Some(name.into()),
            port,
            target_port: Some(target),
            protocol: Some("TCP".into()),
            node_port: Some(node_port),
            ..ServicePort::default()
        }
    }

    #[test]
    fn ports_follow_listeners_and_keep_what_they_have() {
        use IntOrString::{Int, String};
        let now = [port("web", 80, Int(8080), 30080), port("https", 443, String("https".into()), 30443)];
        // (listeners, the numbers outside afterwards with their node ports; nothing where all is well)
        type Row<'a> = (&'a [(&'a str, u16)], Option<&'a [(i32, Option<i32>)]>);
        let rows: [Row<'_>; 5] = [
            (&[("http", 8080), ("https", 8443)], None),
            (&[("https", 8443), ("http", 8080)], None),
            (&[("http", 8080)], Some(&[(80, Some(30080))])),
            (
                &[("http", 8080), ("https", 8443), ("alt", 8888)],
                Some(&[(80, Some(30080)), (443, Some(30443)), (8888, None)]),
            ),
            (&[], None),
        ];
        for (wanted_for, expected) in rows {
            let found = wanted(&listeners(wanted_for), &now);
            let found = found.map(|ports| ports.iter().map(|port| (port.port, port.node_port)).collect());
            assert_eq!(found, expected.map(<[_]>::to_vec), "{wanted_for:?}");
        }
    }

    #[test]
    fn two_listeners_on_one_port_need_one() {
        let found = wanted(&listeners(&[("four", 80), ("six", 80)]), &[]).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(wanted(&listeners(&[("four", 80), ("six", 80)]), &found), None);
    }
}
