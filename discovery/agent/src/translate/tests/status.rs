//! Statuses.

use super::key;
use crate::translate::class::Owner;
use crate::translate::status::{self, Own};
use crate::view::StatusEntry;

#[test]
fn a_status_keeps_what_others_wrote() {
    let ours = || StatusEntry { hostname: Some("web.paris.lb.example.net".into()), ..StatusEntry::default() };
    let older = || StatusEntry { hostname: Some("web.paris.old.example".into()), ..StatusEntry::default() };
    let theirs = || StatusEntry { ip: Some("192.0.2.7".into()), ..StatusEntry::default() };
    // Another Ingress's name, and one that looks like ours in another cluster.
    let other =
        || StatusEntry { hostname: Some("api.paris.lb.example.net".into()), ..StatusEntry::default() };
    let name = Some("web.paris.lb.example.net");
    type Row = (&'static str, Owner, Vec<StatusEntry>, Option<&'static str>, Option<Vec<StatusEntry>>);
    let rows: Vec<Row> = vec![
        ("ours, empty", Owner::Own, vec![], name, Some(vec![ours()])),
        ("ours, there already", Owner::Own, vec![ours()], name, None),
        ("ours, under an older domain", Owner::Own, vec![older()], name, Some(vec![ours()])),
        ("ours, beside theirs", Owner::Own, vec![theirs()], name, Some(vec![theirs(), ours()])),
        ("ours, beside theirs already", Owner::Own, vec![ours(), theirs()], name, None),
        ("ours, another's name is not ours", Owner::Own, vec![other()], name, Some(vec![other(), ours()])),
        ("ours, the name is not known yet", Owner::Own, vec![older()], None, None),
        ("adopted, empty", Owner::Adopted, vec![], name, Some(vec![ours()])),
        ("adopted, theirs there", Owner::Adopted, vec![theirs()], name, None),
        ("adopted, theirs came later", Owner::Adopted, vec![ours(), theirs()], name, Some(vec![theirs()])),
        ("left, with ours", Owner::Foreign, vec![theirs(), ours()], None, Some(vec![theirs()])),
        ("left, without", Owner::Foreign, vec![theirs()], None, None),
    ];
    let own = Own { cluster: "paris", domain: None };
    for (what, owner, current, host, expected) in rows {
        assert_eq!(status::wanted(owner, &current, host, own, &key("shop/web")), expected, "{what}");
    }
}

/// Regression: after a cluster had joined anew as another, its Ingresses had both names for good.
#[test]
fn names_of_another_time_leave_a_status() {
    let entry = |host: &str| StatusEntry { hostname: Some(host.into()), ..StatusEntry::default() };
    let ours = "web.tokyo.lb.example.net";
    let own = Own { cluster: "tokyo", domain: Some("lb.example.net") };
    for (what, owner, current, expected) in [
        ("from when it was paris", Owner::Own, vec!["web.paris.lb.example.net"], Some(vec![ours])),
        ("beside ours", Owner::Own, vec!["web.paris.lb.example.net", ours], Some(vec![ours])),
        ("of no generated form", Owner::Own, vec!["edge.lb.example.net", ours], None),
        ("of no generated form, deeper", Owner::Own, vec!["a.b.c.lb.example.net", ours], None),
        ("of a domain that only looks alike", Owner::Own, vec!["web.paris.glb.example.net", ours], None),
        ("left as paris", Owner::Foreign, vec!["web.paris.lb.example.net"], Some(vec![])),
        // Regression: any two labels under the lb domain were taken for ours.
        (
            "theirs",
            Owner::Own,
            vec!["edge.paris.lb.example.net"],
            Some(vec!["edge.paris.lb.example.net", ours]),
        ),
        ("theirs, with our class adopted", Owner::Adopted, vec!["edge.paris.lb.example.net"], None),
        ("theirs, with a class of theirs", Owner::Foreign, vec!["edge.paris.lb.example.net"], None),
        ("theirs, under our own name", Owner::Foreign, vec!["edge.tokyo.lb.example.net"], None),
    ] {
        let current: Vec<_> = current.into_iter().map(entry).collect();
        let host = (owner != Owner::Foreign).then_some(ours);
        let wanted = status::wanted(owner, &current, host, own, &key("shop/web"));
        assert_eq!(wanted, expected.map(|hosts| hosts.into_iter().map(entry).collect()), "{what}");
    }
}
