//! The command line: exit codes and what is printed.

use std::process::{Command, Output};

use portolan_e2e::{app, binary, cluster, route, run};

fn portolan(args: &[&str]) -> Output {
    run(Command::new(binary()).args(args).env("NO_COLOR", "1"), b"")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn folder(manifests: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("fleet.yaml"), manifests).unwrap();
    folder
}

fn fleet() -> String {
    cluster("paris", "allowedDomains: [{suffix: shop.test}]\n")
        + &app("paris", "shop", &["127.0.0.1:8081".parse().unwrap()])
        + "---\napiVersion: portolan.dev/v1alpha1\nkind: Proxy\nmetadata: {name: default}\nspec:\n  lbDomain: lb.test\n  listeners: [{name: http, port: 8080, protocol: HTTP}]\n"
}

#[test]
fn help_of_each_command() {
    for args in [
        &["--help"][..],
        &["run", "--help"],
        &["check", "--help"],
        &["explain", "--help"],
        &["crds", "--help"],
        &["demo", "--help"],
    ] {
        let output = portolan(args);
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        assert!(text(&output.stdout).contains("Usage:"), "{args:?}: {}", text(&output.stdout));
    }
    assert_eq!(portolan(&["--version"]).status.code(), Some(0));
    for args in [
        &["nonsense"][..],
        &["run"],
        &["run", "--config", ".", "--kubernetes"],
        &["run", "--config", ".", "--state-dir", "state"],
        &["run", "--kubeconfig", "kubeconfig"],
        &["run", "--kubernetes", "--context", "lb"],
        &["check"],
        &["explain", "--config", "."],
    ] {
        let output = portolan(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(!output.stderr.is_empty());
    }
}

#[test]
fn check_passes_a_good_folder() {
    let folder = folder(&fleet());
    let output = portolan(&["check", folder.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("0 errors"), "{}", text(&output.stdout));
}

#[test]
fn check_names_file_line_column_and_what_was_expected() {
    let bad = fleet() + "  drainTimeuot: 5s\n";
    let line = bad.lines().count();
    let folder = folder(&bad);
    let output = portolan(&["check", folder.path().to_str().unwrap()]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for expected in [&format!("fleet.yaml:{line}:3"), "drainTimeuot: 5s", "did you mean: drainTimeout"] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
    assert!(text(&output.stdout).contains(": 1 error\n"), "{}", text(&output.stdout));
}

#[test]
fn check_names_what_only_the_compiler_knows() {
    let folder = folder(
        &(fleet()
            + &route("paris", "lost", "hosts: [www.other.test]\nrules:\n- backends: [{pool: missing}]\n")),
    );
    let output = portolan(&["check", folder.path().to_str().unwrap()]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for expected in ["fleet.yaml", "lost", "www.other.test", "missing"] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
}

#[test]
fn a_folder_or_a_kubeconfig_that_is_none() {
    for args in [
        &["check", "/nowhere/at/all"][..],
        &["run", "--config", "/nowhere/at/all"],
        &["explain", "--config", "/nowhere/at/all", "http://x/"],
        &["run", "--kubernetes", "--kubeconfig", "/nowhere/at/all"],
        &["explain", "--kubernetes", "--kubeconfig", "/nowhere/at/all", "http://x/"],
    ] {
        let output = portolan(args);
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        assert!(text(&output.stderr).contains("/nowhere/at/all"), "{args:?}: {}", text(&output.stderr));
    }
}

#[test]
fn explain_says_what_becomes_of_a_request() {
    let folder = folder(&fleet());
    let config = folder.path().to_str().unwrap();
    let output = portolan(&[
        "explain",
        "--config",
        config,
        "http://shop.paris.lb.test/cart?x=1",
        "-H",
        "X-A: b",
        "-X",
        "POST",
    ]);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    for expected in
        ["shop.paris.lb.test", "tenant-paris/shop", "paris", "127.0.0.1:8081", "health: not known"]
    {
        assert!(said.contains(expected), "{expected}: {said}");
    }
    let output = portolan(&["explain", "--config", config, "--json", "http://nobody.test/"]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((json["status"].as_u64(), json["flag"].as_str()), (Some(404), Some("NR")), "{json}");
    let output =
        portolan(&["explain", "--config", config, "http://ignored.test/", "-H", "Host: shop.paris.lb.test"]);
    assert!(text(&output.stdout).contains("tenant-paris/shop"), "{}", text(&output.stdout));
    let output = portolan(&["explain", "--config", config, "no url"]);
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn crds_are_yaml_that_others_read() {
    let output = portolan(&["crds"]);
    assert_eq!(output.status.code(), Some(0));
    let printed = text(&output.stdout);
    let kinds: Vec<&str> = printed.lines().filter_map(|line| line.strip_prefix("    kind: ")).collect();
    for kind in ["Proxy", "Cluster", "HTTPLoadBalancer", "UpstreamPool", "NodeSet", "TrafficPolicy"] {
        assert!(kinds.contains(&kind), "{kind}: {kinds:?}");
    }
    assert_eq!(printed.lines().filter(|line| *line == "kind: CustomResourceDefinition").count(), 6);
}
