//! What is to be said of each file?
//!
//! What its last reading found, that objects in it are declared elsewhere already, and that it cannot be read. Invariant: what
//! is said of a file is said as a whole, whenever any of it changes, so that it may take the place of what was said before.
//! Cost: a change costs what is to be said of the files that it touches.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use portolan_api::{Diagnostic, Severity};

use crate::index::Duplicate;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// What reading found, of the files where it found anything.
    found: HashMap<Arc<str>, Vec<Diagnostic>>,
    /// Why a file or a folder cannot be read.
    complaints: BTreeMap<Arc<str>, String>,
    /// Of which something else may have to be said than before.
    touched: BTreeSet<Arc<str>>,
}

impl Told {
    /// A file was read, or is gone.
    pub(crate) fn read(&mut self, file: &Arc<str>, found: Vec<Diagnostic>) {
        if found.is_empty() {
            self.found.remove(file);
        } else {
            self.found.insert(Arc::clone(file), found);
        }
        self.touch(file);
    }

    /// Something else is to be said of a file.
    pub(crate) fn touch(&mut self, file: &Arc<str>) {
        self.touched.insert(Arc::clone(file));
    }

    /// These cannot be read, and all else that `looked_at` names can. What was complained of before is not said again, but for
    /// `again`.
    pub(crate) fn unreadable(
        &mut self,
        now: Vec<(Arc<str>, String)>,
        looked_at: impl Fn(&str) -> bool,
        again: bool,
    ) {
        let still: HashSet<&str> = now.iter().map(|(path, _)| &**path).collect();
        let touched = &mut self.touched;
        self.complaints.retain(|path, _| {
            let stays = still.contains(&**path) || !looked_at(path);
            if !stays {
                touched.insert(Arc::clone(path));
            }
            stays
        });
        for (path, message) in now {
            if again || self.complaints.get(&path) != Some(&message) {
                self.touch(&path);
                self.complaints.insert(path, message);
            }
        }
    }

    /// The files of which something may have changed, and all that is to be said of them. The folder itself is called `.`.
    pub(crate) fn say(
        &mut self,
        duplicates: impl Fn(&str) -> Vec<Duplicate>,
    ) -> (Vec<Arc<str>>, Vec<Diagnostic>) {
        let (mut files, mut said) = (Vec::new(), Vec::new());
        for path in std::mem::take(&mut self.touched) {
            let name: Arc<str> = if path.is_empty() { ".".into() } else { Arc::clone(&path) };
            said.extend(self.complaints.get(&path).map(|message| error(&name, 1, message.clone())));
            said.extend(self.found.get(&path).into_iter().flatten().cloned());
            said.extend(duplicates(&path).into_iter().map(twice));
            files.push(name);
        }
        (files, said)
    }
}

fn twice(duplicate: Duplicate) -> Diagnostic {
    let Duplicate { id, file, line, first_file, first_line } = duplicate;
    let message = format!("{id} is declared in {first_file}:{first_line} already; that one counts");
    Diagnostic { object: Some(id), ..error(&file, line, message) }
}

pub(crate) fn error(file: &str, line: u32, message: String) -> Diagnostic {
    Diagnostic {
        severity: Severity::Error,
        object: None,
        file: file.to_owned(),
        line,
        column: 1,
        field: String::new(),
        found: String::new(),
        message,
        expected: None,
        suggestion: None,
        secret: false,
    }
}
