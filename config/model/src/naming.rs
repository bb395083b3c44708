//! Names that more than one program has to know: generated host names, `<label>.<cluster>.<lb domain>`, and those of companions, the `Service`s
//! that agents make beside others for their node ports.

use sha2::{Digest, Sha256};

/// Longest label, RFC 1035 §2.3.4; so long a `Service` may be called as well.
const LABEL: usize = 63;

/// What a companion is called after its `Service`.
const COMPANION: &str = "-portolan";

/// The labels that an origin may get, best first: its own, then marked ever longer, for the case that somebody is called as
/// a mark would have it.
pub fn labels<'a>(kind: &'a str, namespace: &'a str, name: &'a str) -> impl Iterator<Item = String> + 'a {
    let first = label(kind, namespace, name);
    let marked = (4..=24).step_by(4).map(move |bytes| marked_label(kind, namespace, name, bytes));
    let marked_already = plain(name).len() > LABEL;
    std::iter::once(first).chain(marked.skip(usize::from(marked_already)))
}

/// Whether a host name is one that an origin of that cluster may get, whatever the lb domain is or was.
pub fn is_generated(host: &str, cluster: &str, kind: &str, namespace: &str, name: &str) -> bool {
    let mut parts = host.splitn(3, '.');
    let (Some(label), Some(second), Some(_)) = (parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    second == cluster && labels(kind, namespace, name).any(|own| own == label)
}

/// The same, and under `domain`, the lb domain of today, for that origin in whatever cluster: its own may have been called otherwise before.
/// Labels do not depend on it, so that nobody else's name is taken for one.
pub fn is_generated_ever(
    host: &str,
    cluster: &str,
    domain: Option<&str>,
    kind: &str,
    namespace: &str,
    name: &str,
) -> bool {
    let mut parts = host.splitn(3, '.').skip(1);
    let cluster = match (parts.next(), parts.next()) {
        (Some(another), under) if under.is_some() && under == domain => another,
        _ => cluster,
    };
    is_generated(host, cluster, kind, namespace, name)
}

/// The companion of a `Service`, in its namespace.
pub fn companion(service: &str) -> String {
    let mut name = fit(service.to_owned(), LABEL - COMPANION.len());
    name.push_str(COMPANION);
    name
}

/// The `Service` whose companion is called so, of those that own it. One that was left without an owner is called like a companion. A copy
/// that somebody made under another name belongs to nobody.
pub fn companion_owner<'a>(name: &'a str, owners: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let mut owners = owners.into_iter().peekable();
    match owners.peek() {
        Some(_) => owners.find(|owner| companion(owner) == name),
        None => name.strip_suffix(COMPANION),
    }
}

/// A name of so many bytes at most: what would be longer is cut, and ends in ten hexadecimal digits of the SHA-256 of the whole.
pub fn fit(full: String, limit: usize) -> String {
    if full.len() <= limit {
        return full;
    }
    let mark = hex(&full, 5);
    let cut = full.get(..limit - 1 - mark.len()).unwrap_or(&full);
    format!("{}-{mark}", cut.trim_end_matches(['-', '.']))
}

/// The first so many bytes of the SHA-256 of a text.
pub fn hex(text: &str, bytes: usize) -> String {
    Sha256::digest(text).iter().take(bytes).map(|byte| format!("{byte:02x}")).collect()
}

/// The label that an origin asks for: its name in lower case, dots turned into dashes; a name that makes no valid label,
/// or a longer one than 63 bytes, is cut and marked as by [`distinct_label`].
fn label(kind: &str, namespace: &str, name: &str) -> String {
    let wanted = plain(name);
    if wanted.len() <= LABEL { wanted } else { distinct_label(kind, namespace, name) }
}

/// The label of an origin whose own is taken by an older one: `<label>-<8 hex of sha256(kind/namespace/name)>`.
fn distinct_label(kind: &str, namespace: &str, name: &str) -> String {
    marked_label(kind, namespace, name, 4)
}

fn marked_label(kind: &str, namespace: &str, name: &str, bytes: usize) -> String {
    let mark = hex(&format!("{kind}/{namespace}/{name}"), bytes);
    let wanted = plain(name);
    let cut = wanted.get(..LABEL - 1 - mark.len()).unwrap_or(&wanted).trim_end_matches('-');
    format!("{cut}-{mark}")
}

fn plain(name: &str) -> String {
    name.to_ascii_lowercase().replace('.', "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_plain_short_and_stable() {
        let long = "x".repeat(80);
        for (name, expected) in [
            ("shop", "shop".to_owned()),
            ("Shop.V2", "shop-v2".to_owned()),
            (&"y".repeat(63), "y".repeat(63)),
            (&long, format!("{}-{}", "x".repeat(54), &distinct_label("Ingress", "a", &long)[55..])),
        ] {
            let label = label("Ingress", "a", name);
            assert_eq!(label, expected);
            assert!(label.len() <= 63);
        }
        assert_eq!(distinct_label("Ingress", "a", "shop"), "shop-3cced9ca");
        let all: Vec<_> = labels("Ingress", "a", "shop").collect();
        assert_eq!(all.len(), 7);
        assert_eq!(all[..2], ["shop".to_owned(), "shop-3cced9ca".to_owned()]);
        assert!(all[2].starts_with("shop-3cced9ca") && all[2].len() == 21, "{all:?}");
        assert!(labels("Ingress", "a", &long).all(|label| label.len() <= 63));
        assert_ne!(labels("Ingress", "a", &long).next(), labels("Ingress", "a", &long).nth(1));
        assert_ne!(distinct_label("Ingress", "a", "b-c"), distinct_label("Ingress", "a-b", "c"));
    }

    #[test]
    fn a_generated_name_is_known_by_its_form() {
        for (host, expected) in [
            ("shop.paris.lb.example.net", true),
            ("shop.paris.old.example", true),
            ("shop-3cced9ca.paris.lb.example.net", true),
            ("shop.tokyo.lb.example.net", false),
            ("api.paris.lb.example.net", false),
            ("shop.paris", false),
            ("shop", false),
            ("", false),
        ] {
            assert_eq!(is_generated(host, "paris", "Ingress", "a", "shop"), expected, "{host}");
        }
    }

    #[test]
    fn under_the_lb_domain_of_today_the_cluster_may_be_another() {
        for (host, domain, expected) in [
            ("shop.tokyo.lb.example.net", Some("lb.example.net"), true),
            ("shop.tokyo.lb.example.net", Some("example.net"), false),
            ("shop.tokyo.lb.example.net", None, false),
            ("shop.paris.old.example", Some("lb.example.net"), true),
            ("api.tokyo.lb.example.net", Some("lb.example.net"), false),
            ("shop.tokyo", None, false),
        ] {
            let found = is_generated_ever(host, "paris", domain, "Ingress", "a", "shop");
            assert_eq!(found, expected, "{host} under {domain:?}");
        }
    }

    #[test]
    fn a_companion_is_called_after_its_service() {
        let long = "x".repeat(63);
        assert_eq!(companion("web"), "web-portolan");
        assert_eq!(companion(&long).len(), 63);
        assert!(companion(&long).ends_with("-portolan"));
        assert_ne!(companion(&long), companion(&long[1..]));

        let (cut, other) = (companion(&long), format!("{}-0123456789-portolan", &long[..43]));
        for (name, owners, expected) in [
            ("web-portolan", &["web"][..], Some("web")),
            ("web-portolan", &["other", "web"], Some("web")),
            ("web-portolan", &["other"], None),
            ("my-copy", &["web"], None),
            ("my-own", &[], None),
            ("left-portolan", &[], Some("left")),
            ("web-1-portolan", &["web-12"], None),
            (&cut, &[&long], Some(&*long)),
            (&other, &[&long], None),
        ] {
            assert_eq!(companion_owner(name, owners.iter().copied()), expected, "{name}: {owners:?}");
        }
    }
}
