//! What is an object called that is written for one of the member cluster?
//!
//! The names of namespaces have no dots, so `a-b/c` and `a/b-c` never meet. What would be too long is cut, and ends in ten hexadecimal
//! digits of the SHA-256 of the whole. Cost: one allocation, and a hash where it is cut.

use portolan_model::naming::{fit, hex};

/// The longest value of a label; a pool's name is one.
const LABEL: usize = 63;

/// The longest name of an object.
const OBJECT: usize = 253;

/// The one `NodeSet`.
pub const NODE_SET: &str = "nodes";

/// The `HTTPLoadBalancer` of an `Ingress`.
pub fn load_balancer(namespace: &str, name: &str) -> String {
    fit(format!("ingress.{namespace}.{name}"), OBJECT)
}

/// The pool of a port of a `Service`; the port's name where nobody knows its number.
pub fn service_pool(namespace: &str, name: &str, port: &str) -> String {
    fit(format!("service.{namespace}.{name}.{port}"), LABEL)
}

/// The pool of an `Ingress` that is reached through the member cluster's own gateway.
pub fn ingress_pool(namespace: &str, name: &str) -> String {
    fit(format!("ingress.{namespace}.{name}"), LABEL)
}

/// Whether a pool is called so.
pub fn is_ingress_pool(pool: &str) -> bool {
    pool.starts_with("ingress.")
}

/// The pool that a resource backend would have, if there were such pools.
pub fn resource_pool(namespace: &str, kind: &str, name: &str) -> String {
    fit(format!("resource.{namespace}.{}.{name}", kind.to_ascii_lowercase()), LABEL)
}

/// The copy of an `EndpointSlice` for a pool.
pub fn slice(pool: &str, namespace: &str, name: &str) -> String {
    format!("{pool}.{}", hex(&format!("{namespace}/{name}"), 5))
}

/// The pool whose slices are called so.
pub fn pool_of_slice(slice: &str) -> &str {
    slice.rsplit_once('.').map_or(slice, |(pool, _)| pool)
}

/// The copy of a `Secret`.
pub fn secret(namespace: &str, name: &str) -> String {
    fit(format!("secret.{namespace}.{name}"), OBJECT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain_distinct_and_short() {
        assert_eq!(load_balancer("shop", "web"), "ingress.shop.web");
        assert_eq!(service_pool("shop", "web", "80"), "service.shop.web.80");
        assert_eq!(secret("shop", "tls"), "secret.shop.tls");
        assert_ne!(load_balancer("a-b", "c"), load_balancer("a", "b-c"));
        assert_ne!(slice("service.a.b.80", "a", "b-x1"), slice("service.a.b.80", "a", "b-x2"));

        let long = "x".repeat(63);
        assert_eq!(service_pool("shop", &long, "80").len(), 63);
        assert_ne!(service_pool("shop", &long, "80"), service_pool("shop", &long, "81"));
        assert_eq!(load_balancer("shop", &"y".repeat(253)).len(), 253);
        assert!(slice(&service_pool("shop", &long, "80"), "shop", "s").len() <= OBJECT);

        // A cut never ends in what no label may end in.
        let dashes = format!("{}{}", "x".repeat(40), "-".repeat(23));
        assert!(!service_pool("s", &dashes, "80").contains("--"), "{}", service_pool("s", &dashes, "80"));
    }
}
