//! Whatever a file holds, the reader answers; what it says of a file stands in the file, and a document of its own
//! behind it is read all the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portolan_api::{Checks, FileObjects, Reader, Source};

const CHECKS: Checks = Checks {
    regex: |_| Ok(()),
    certificate: |_, _| Err("no certificate".to_owned()),
    ca_bundle: |_| Ok(()),
    cipher_suite: |_| Ok(()),
};

const NEIGHBOUR: &str =
    "\n---\napiVersion: portolan.dev/v1alpha1\nkind: Cluster\nmetadata: {name: neighbour}\nspec: {}\n";

fn holds(read: &FileObjects, text: &str) {
    // YAML breaks lines at a carriage return alone too (YAML 1.2, section 5.4).
    let lines = text.replace("\r\n", "\n").split(['\n', '\r']).count();
    let source = Source::new(text);
    for (index, told) in read.all_diagnostics().into_iter().enumerate() {
        assert!(told.line >= 1 && told.column >= 1 && told.line as usize <= lines, "{told}");
        if index < 4 {
            told.render(&source);
        }
    }
}

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let read = Reader::new(CHECKS).read("a.yaml", text);
    holds(&read, text);
    let text = format!("{text}{NEIGHBOUR}");
    let both = Reader::new(CHECKS).read("a.yaml", &text);
    holds(&both, &text);
    let neighbour = both.objects.last().is_some_and(|object| &*object.meta.id.name == "neighbour");
    assert!(neighbour, "a neighbour was lost");
});
