use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tempfile::TempDir;

use super::*;

/// A home without a cache, and before everything else in the PATH a Go that only knows its version, or none: what a shell says then.
fn machine(go: &str) -> (TempDir, Command) {
    let home = tempfile::tempdir().unwrap();
    let answer = if go.is_empty() { "exit 127".to_owned() } else { format!("echo {go}") };
    program(&home.path().join("bin/go"), &format!("#!/bin/sh\n{answer}\n"));
    let mut script = Command::new(SCRIPT);
    let path = format!("{}:/usr/bin:/bin", home.path().join("bin").display());
    script.env("HOME", home.path()).env("PATH", path).env_remove("KUBEBUILDER_ASSETS");
    (home, script)
}

fn program(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn what_is_wrong_is_one_sentence() {
    let needs_go = "the rig builds Kubernetes from source with Go 1.26 or newer, and this machine has";
    for (go, arguments, sentence) in [
        ("", &["etcd"][..], format!("{needs_go} none: install it from https://go.dev/dl/")),
        ("go1.9", &["etcd"], format!("{needs_go} 1.9: install it")),
        ("go1.26rc1", &["etcd"], format!("{needs_go} 1.26: install it")),
        ("go1.26.0", &["--no-build", "etcd"], "not built yet: etcd; tests/rig/build.sh builds".to_owned()),
        ("go1.30.1", &["--no-build", "etcd"], "not built yet: etcd;".to_owned()),
        ("go1.26.0", &["--no-build"], "not built yet: kube-apiserver kube-controller-manager ".to_owned()),
        ("", &["--check", "etcd"], format!("{needs_go} none: install it")),
        ("go1.26.0", &["minikube"], "unknown part minikube: it is one of kubernetes, etcd,".to_owned()),
    ] {
        let (_home, mut script) = machine(go);
        let error = answer(script.args(arguments)).unwrap_err().to_string();
        assert!(error.starts_with(&sentence), "{go} {arguments:?}: {error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

#[test]
fn what_go_says_of_a_failed_build_is_kept() {
    let (home, mut script) = machine("go1.26.0");
    program(
        &home.path().join("bin/go"),
        "#!/bin/sh\nif [ $1 = env ]; then echo go1.26.0; else echo no network; exit 1; fi\n",
    );
    let error = answer(script.arg("etcd")).unwrap_err().to_string();
    let log = home.path().join(".cache/portolan/rig/building/log");
    assert!(error.starts_with("etcd of tests/rig/modules/etcd could not be built"), "{error}");
    assert!(error.ends_with(log.to_str().unwrap()), "{error}");
    assert_eq!(fs::read_to_string(log).unwrap(), "no network\n");
}

#[test]
fn a_binary_is_built_once_and_nothing_else_is_left() {
    let (home, mut script) = machine("go1.26.0");
    let runs = home.path().join("runs");
    let go = "#!/bin/sh\nif [ $1 = env ]; then echo go1.26.0; exit; fi\necho $1 >>~/runs\n\
              while [ \"$1\" != -o ]; do shift; done; echo built >$2\n";
    program(&home.path().join("bin/go"), go);
    script.arg("etcd");
    for _ in 0..2 {
        let found = answer(&mut script).unwrap();
        assert_eq!(fs::read_to_string(&found["etcd"]).unwrap(), "built\n");
        assert_eq!(fs::read_to_string(&runs).unwrap(), "build\n");
        let rig = home.path().join(".cache/portolan/rig");
        let mut left: Vec<_> = fs::read_dir(&rig).unwrap().map(|entry| entry.unwrap().path()).collect();
        left.sort();
        assert_eq!(left, [found["etcd"].parent().unwrap().to_owned(), rig.join("lock")]);
    }
}

#[test]
fn what_the_assets_hold_needs_no_go() {
    let (home, mut script) = machine("");
    let assets = home.path().join("assets");
    program(&assets.join("etcd"), "");
    let found = answer(script.env("KUBEBUILDER_ASSETS", &assets).arg("etcd")).unwrap();
    assert_eq!(found, HashMap::from([("etcd".to_owned(), assets.join("etcd"))]));

    let error = answer(script.arg("kubernetes")).unwrap_err().to_string();
    assert!(error.contains("with Go 1.26 or newer"), "{error}");
}
