//! Every published example is right.

use std::fs;
use std::path::{Path, PathBuf};

use portolan_api::Reader;

use crate::support::checks;

/// The example files, with their texts.
pub(crate) fn examples() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/examples");
    let mut found = Vec::new();
    for folder in fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir())
    {
        for file in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            let text = fs::read_to_string(&file).unwrap();
            found.push((file, text));
        }
    }
    found.sort();
    found
}

#[test]
fn examples_hold_objects_and_nothing_to_tell() {
    let mut reader = Reader::new(checks());
    let mut objects = 0;
    for (path, text) in examples() {
        let read = reader.read(&path.display().to_string(), &text);
        let told: Vec<_> = read.all_diagnostics().into_iter().map(ToString::to_string).collect();
        assert!(told.is_empty(), "{told:#?}");
        assert!(!read.objects.is_empty(), "{} is empty", path.display());
        objects += read.objects.len();
    }
    assert!(objects >= 20, "{objects} objects");
}
