//! Generated host names: `<label>.<cluster>.<lb domain>`.

use sha2::{Digest, Sha256};

/// Longest label, RFC 1035 §2.3.4.
const LABEL: usize = 63;

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
    let digest = Sha256::digest(format!("{kind}/{namespace}/{name}"));
    let mark: String = digest.iter().take(bytes).map(|byte| format!("{byte:02x}")).collect();
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
}
