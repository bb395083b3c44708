//! The binaries are of the versions that the Go modules pin.

use std::path::Path;
use std::process::Command;

use portolan_rig::binaries::Binaries;

#[test]
#[ignore = "needs clusters: make test"]
fn versions_are_those_of_the_modules() {
    let binaries = Binaries::find().expect("built");
    let kubernetes = pinned("kubernetes", "k8s.io/kubernetes");
    for program in [&binaries.kube_apiserver, &binaries.kube_controller_manager, &binaries.kube_proxy] {
        assert_eq!(says(program, "--version"), format!("Kubernetes v{kubernetes}\n"));
    }
    let etcd = pinned("etcd", "go.etcd.io/etcd/server/v3");
    assert!(says(&binaries.etcd, "--version").starts_with(&format!("etcd Version: {etcd}\n")));
    assert_eq!(says(&binaries.conformance, "-test.list=."), "TestConformance\n");

    let gateway_api = pinned("conformance", "sigs.k8s.io/gateway-api");
    assert_eq!(gateway_api, pinned("conformance", "sigs.k8s.io/gateway-api/conformance"));
    for channel in ["standard", "experimental"] {
        let path = binaries.gateway_crds.join(channel).join("gateway.networking.k8s.io_gateways.yaml");
        let text = std::fs::read_to_string(path).expect("a file");
        assert!(text.contains(&format!("gateway.networking.k8s.io/bundle-version: v{gateway_api}\n")));
        assert!(text.contains(&format!("gateway.networking.k8s.io/channel: {channel}\n")));
    }
}

/// The version that the module requires of a package.
fn pinned(module: &str, package: &str) -> String {
    let path = format!("{}/modules/{module}/go.mod", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).expect("a file");
    let mut required = text.lines().map(|line| line.trim().trim_start_matches("require "));
    let version = required.find_map(|line| line.strip_prefix(package)?.strip_prefix(" v"));
    version.expect("it is required").to_owned()
}

fn says(program: &Path, argument: &str) -> String {
    let output = Command::new(program).arg(argument).output().expect("it runs");
    String::from_utf8(output.stdout).expect("text")
}
