use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use portolan_model::id::{Kind, ObjectRef};
use portolan_model::intent::{Meta, Object, Place, Spec};
use portolan_model::inventory::NodeSet;
use tempfile::TempDir;

use super::*;
use crate::told::error;

/// A reader of a language of its own: a line is an object, `name generation`; `name !` is an invalid one, `?` cannot be
/// told apart; `boom` is a bug of its own. It counts its calls.
pub(crate) fn line_reader(calls: &Arc<AtomicUsize>) -> ReadFile {
    let calls = Arc::clone(calls);
    Box::new(move |file, text| {
        calls.fetch_add(1, Relaxed);
        let mut read = FileObjects::default();
        for (line, text) in (1..).zip(text.lines()) {
            let (name, rest) = text.split_once(' ').unwrap_or((text, "0"));
            let id = ObjectRef::new(Kind::NodeSet, "tenant-paris", name);
            let place = Some(Place { file: file.into(), line });
            assert_ne!(name, "boom");
            match rest.parse() {
                _ if name == "?" => {
                    let message = "cannot be told apart".to_owned();
                    read.diagnostics.push(error(file, line, message));
                }
                Ok(generation) => read.objects.push(Object {
                    meta: Meta { id, created: None, generation, origin: None, host: None, place },
                    spec: Spec::NodeSet(NodeSet { nodes: Vec::new() }),
                }),
                Err(_) => {
                    let what = error(file, line, "not a generation".to_owned());
                    read.invalid.push((id.clone(), vec![Diagnostic { object: Some(id), ..what }]));
                }
            }
        }
        read
    })
}

pub(crate) fn spell(deltas: &[Delta]) -> Vec<String> {
    deltas
        .iter()
        .map(|delta| match delta {
            Delta::Apply(object) => format!("+{}{}", object.meta.id.name, object.meta.generation),
            Delta::Delete(id) => format!("-{}", id.name),
            Delta::Invalid(id, _) => format!("!{}", id.name),
        })
        .collect()
}

struct Rig {
    temp: TempDir,
    folder: Folder,
    calls: Arc<AtomicUsize>,
}

impl Rig {
    fn new() -> Self {
        let temp = TempDir::new().unwrap();
        let calls = Arc::default();
        let folder = Folder::with_readers(temp.path(), || line_reader(&calls));
        Self { temp, folder, calls }
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.temp.path().join(file), text).unwrap();
    }

    fn path(&self, file: &str) -> PathBuf {
        self.temp.path().join(file)
    }

    fn all(&mut self) -> Vec<String> {
        spell(&self.folder.update(&Dirt::anything()).deltas)
    }

    fn at(&mut self, path: &str) -> Batch {
        let mut dirt = Dirt::default();
        dirt.path(Path::new(path));
        self.folder.update(&dirt)
    }

    fn calls(&self) -> usize {
        self.calls.swap(0, Relaxed)
    }
}

#[test]
fn manifests_are_read_wherever_they_lie_and_nothing_else() {
    let mut rig = Rig::new();
    fs::create_dir_all(rig.path("sub/deep")).unwrap();
    fs::create_dir(rig.path(".hidden")).unwrap();
    for file in ["a.yaml", "b.yml", "c.json", "sub/d.yaml", "sub/deep/e.yaml"] {
        rig.write(file, &format!("{} 1", file.replace(['/', '.'], "-")));
    }
    for file in ["README.md", ".swap.yaml", ".hidden/x.yaml", "a.yaml~"] {
        rig.write(file, "never 1");
    }
    symlink(".", rig.path("sub/round")).unwrap();
    let batch = rig.folder.update(&Dirt::anything());
    assert!(batch.first);
    assert_eq!(
        spell(&batch.deltas),
        ["+a-yaml1", "+b-yml1", "+c-json1", "+sub-d-yaml1", "+sub-deep-e-yaml1"]
    );
    assert!(batch.diagnostics.is_empty());
    assert!(!rig.folder.update(&Dirt::anything()).first);
}

#[test]
fn edits_additions_and_deletions_are_found_by_path() {
    let mut rig = Rig::new();
    rig.write("a.yaml", "a 1\nb 1");
    rig.all();
    rig.write("a.yaml", "a 2\nb 1");
    assert_eq!(spell(&rig.at("a.yaml").deltas), ["+a2"]);
    rig.write("c.yaml", "c 1");
    assert_eq!(spell(&rig.at("c.yaml").deltas), ["+c1"]);
    fs::rename(rig.path("c.yaml"), rig.path("d.yaml")).unwrap();
    let mut dirt = Dirt::default();
    dirt.path(Path::new("c.yaml"));
    dirt.path(Path::new("d.yaml"));
    assert_eq!(spell(&rig.folder.update(&dirt).deltas), ["+c1"], "its place is another");
    fs::remove_file(rig.path("d.yaml")).unwrap();
    assert_eq!(spell(&rig.at("d.yaml").deltas), ["-c"]);
    fs::remove_file(rig.path("a.yaml")).unwrap();
    assert_eq!(rig.all(), ["-a", "-b"]);
}

#[test]
fn folders_come_and_go_with_all_that_is_in_them() {
    let mut rig = Rig::new();
    rig.write("sub.yaml", "x 1");
    rig.all();
    fs::create_dir_all(rig.path("sub/deep")).unwrap();
    rig.write("sub/a.yaml", "a 1");
    rig.write("sub/deep/b.yaml", "b 1");
    assert_eq!(spell(&rig.at("sub").deltas), ["+a1", "+b1"]);
    fs::rename(rig.path("sub"), rig.path("new")).unwrap();
    assert_eq!(spell(&rig.at("sub").deltas), ["-a", "-b"]);
    assert_eq!(spell(&rig.at("new").deltas), ["+a1", "+b1"]);
}

#[test]
fn a_file_that_is_no_manifest_means_nothing() {
    let mut rig = Rig::new();
    for folder in ["sub", "deep.yaml"] {
        fs::create_dir(rig.path(folder)).unwrap();
        rig.write(&format!("{folder}/x.yaml"), &format!("{} 1", &folder[..3]));
    }
    rig.all();
    for file in ["notes.txt", "b.yaml.bak"] {
        rig.write(file, "never 1");
        let batch = rig.at(file);
        assert!(batch.deltas.is_empty() && batch.diagnostics.is_empty(), "{file}: {batch:?}");
    }
    for (folder, event, delta) in [("sub", "sub", "-sub"), ("deep.yaml", "deep.yaml/x.yaml", "-dee")] {
        fs::remove_dir_all(rig.path(folder)).unwrap();
        rig.write(folder, "# was a folder");
        let batch = rig.at(event);
        assert_eq!(spell(&batch.deltas), [delta]);
        assert!(batch.diagnostics.is_empty(), "{:?}", batch.diagnostics);
    }
    rig.write("deep.yaml", "new 1");
    assert_eq!(spell(&rig.at("deep.yaml").deltas), ["+new1"]);
}

#[test]
fn a_changed_file_costs_one_reading() {
    let mut rig = Rig::new();
    for number in 0..10_000 {
        rig.write(&format!("{number}.yaml"), &format!("o{number} 1"));
    }
    assert_eq!(rig.all().len(), 10_000);
    assert_eq!(rig.calls(), 10_000);
    rig.write("77.yaml", "o77 2");
    assert_eq!(spell(&rig.at("77.yaml").deltas), ["+o772"]);
    assert_eq!(rig.calls(), 1);
    File::open(rig.path("78.yaml")).unwrap().set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    assert!(rig.at("78.yaml").deltas.is_empty());
    assert!(rig.all().is_empty());
    assert_eq!(rig.calls(), 0, "the content decides, not the time");
}

#[test]
fn a_forced_update_reads_everything_and_changes_nothing() {
    let mut rig = Rig::new();
    rig.write("a.yaml", "a 1");
    rig.write("b.yaml", "b 1");
    rig.all();
    rig.calls();
    assert!(rig.folder.update(&Dirt::everything()).deltas.is_empty());
    assert_eq!(rig.calls(), 2);
}

#[test]
fn swapped_links_are_followed() {
    let mut rig = Rig::new();
    // As the kubelet mounts a ConfigMap.
    let version = |rig: &Rig, name: &str, text: &str| {
        fs::create_dir(rig.path(name)).unwrap();
        rig.write(&format!("{name}/a.yaml"), text);
        symlink(name, rig.path("..data_tmp")).unwrap();
        fs::rename(rig.path("..data_tmp"), rig.path("..data")).unwrap();
    };
    version(&rig, "..one", "a 1");
    symlink("..data/a.yaml", rig.path("a.yaml")).unwrap();
    assert_eq!(rig.all(), ["+a1"]);
    version(&rig, "..two", "a 2");
    fs::remove_dir_all(rig.path("..one")).unwrap();
    assert_eq!(spell(&rig.at("..data").deltas), ["+a2"]);
    version(&rig, "..three", "a 3");
    assert_eq!(rig.all(), ["+a3"]);
}

/// Regression: it was passed over in silence.
#[test]
fn a_link_to_nothing_is_told_and_keeps_what_it_said() {
    let mut rig = Rig::new();
    let outside = TempDir::new().unwrap();
    let target = outside.path().join("target");
    for link in ["a.yaml", "folder", ".hidden.yaml"] {
        symlink(&target, rig.path(link)).unwrap();
    }
    let said = "cannot be read: it is a link to nothing; what it said before stays in force";
    let told = |batch: &Batch| -> Vec<String> {
        batch.diagnostics.iter().map(|told| format!("{}: {}", told.file, told.message)).collect()
    };
    assert_eq!(told(&rig.folder.update(&Dirt::everything())), [format!("a.yaml: {said}")]);
    fs::write(&target, "a 1").unwrap();
    let batch = rig.at("a.yaml");
    assert_eq!((spell(&batch.deltas), told(&batch)), (vec!["+a1".to_owned()], vec![]));
    fs::remove_file(&target).unwrap();
    for dirt in [Dirt::everything(), Dirt::anything()] {
        let everything = dirt.everything;
        let batch = rig.folder.update(&dirt);
        assert!(batch.deltas.is_empty(), "{batch:?}");
        assert_eq!(told(&batch).len(), usize::from(everything), "it is said once, and again when asked");
    }
    fs::remove_file(rig.path("a.yaml")).unwrap();
    let batch = rig.at("a.yaml");
    assert_eq!(
        (spell(&batch.deltas), told(&batch)),
        (vec!["-a".to_owned()], vec![]),
        "the link itself is gone"
    );
}

#[test]
fn what_cannot_be_read_keeps_what_it_said() {
    let mut rig = Rig::new();
    rig.write("a.yaml", "a 1\nb 1");
    rig.all();
    rig.write("a.yaml", "a 2\n?");
    let batch = rig.at("a.yaml");
    assert_eq!(spell(&batch.deltas), ["+a2"], "b may be what could not be told apart");
    assert_eq!(batch.diagnostics.len(), 1);
    rig.write("a.yaml", "a 2\nb !");
    let batch = rig.at("a.yaml");
    assert_eq!(spell(&batch.deltas), ["!b"]);
    assert_eq!(batch.diagnostics.len(), 1);
    fs::write(rig.path("a.yaml"), b"a 3 \xff").unwrap();
    let batch = rig.at("a.yaml");
    assert!(batch.deltas.is_empty());
    assert!(batch.diagnostics[0].message.contains("it is not UTF-8 text"), "{:?}", batch.diagnostics);
    assert!(rig.folder.update(&Dirt::anything()).diagnostics.is_empty(), "it is said once");
    let again = rig.folder.update(&Dirt::everything()).diagnostics;
    assert_eq!(again, batch.diagnostics, "and again when asked");
    assert_eq!(again.len(), 2, "beside what is wrong with what is in force");
    rig.write("a.yaml", "b 2");
    assert_eq!(spell(&rig.at("a.yaml").deltas), ["-a", "+b2"]);
}

#[test]
fn a_reader_that_panics_takes_nothing_with_it() {
    for many in [1, 2 * FEW] {
        let mut rig = Rig::new();
        rig.write("a.yaml", "a 1");
        rig.all();
        rig.write("a.yaml", "boom");
        for number in 0..many {
            rig.write(&format!("{number}.yaml"), &format!("o{number} 1"));
        }
        let batch = rig.folder.update(&Dirt::anything());
        assert_eq!(batch.deltas.len(), many, "all but that file");
        assert_eq!(batch.diagnostics.len(), 1);
        assert!(batch.diagnostics[0].message.contains("the reader failed"), "{:?}", batch.diagnostics);
        rig.write("a.yaml", "a 2");
        assert_eq!(spell(&rig.at("a.yaml").deltas), ["+a2"]);
    }
}

#[test]
fn an_emptied_file_keeps_what_it_said() {
    let mut rig = Rig::new();
    rig.write("a.yaml", "a 1\nb 1");
    rig.write("new.yaml", "");
    assert!(rig.folder.update(&Dirt::anything()).diagnostics.is_empty(), "it never held anything");
    rig.write("a.yaml", "");
    let batch = rig.at("a.yaml");
    assert!(batch.deltas.is_empty(), "{:?}", batch.deltas);
    assert!(batch.diagnostics[0].message.contains("it is empty; delete the file"), "{:?}", batch.diagnostics);
    assert!(rig.folder.update(&Dirt::everything()).deltas.is_empty(), "though asked again");
    rig.write("a.yaml", "a 1");
    assert_eq!(spell(&rig.at("a.yaml").deltas), ["-b"], "its second half is there");
    rig.write("a.yaml", "");
    assert!(rig.all().is_empty());
    fs::remove_file(rig.path("a.yaml")).unwrap();
    assert_eq!(rig.all(), ["-a"]);
}

#[test]
fn a_folder_that_is_gone_keeps_what_it_said() {
    let mut rig = Rig::new();
    let moved = TempDir::new().unwrap();
    rig.write("a.yaml", "a 1");
    rig.all();
    fs::rename(rig.temp.path(), moved.path().join("elsewhere")).unwrap();
    let batch = rig.folder.update(&Dirt::anything());
    assert!(batch.deltas.is_empty());
    assert!(batch.diagnostics[0].message.contains("stays in force"), "{:?}", batch.diagnostics);
    fs::create_dir(rig.temp.path()).unwrap();
    assert_eq!(rig.all(), ["-a"]);
}

#[test]
fn a_subfolder_that_cannot_be_read_keeps_what_it_said() {
    let mut rig = Rig::new();
    fs::create_dir(rig.path("sub")).unwrap();
    rig.write("sub/a.yaml", "a 1");
    rig.all();
    fs::set_permissions(rig.path("sub"), fs::Permissions::from_mode(0o000)).unwrap();
    // Root may read it all the same.
    let batch = rig.folder.update(&Dirt::anything());
    assert!(batch.deltas.is_empty(), "{:?}", batch.deltas);
    fs::set_permissions(rig.path("sub"), fs::Permissions::from_mode(0o755)).unwrap();
    assert!(rig.all().is_empty());
}

#[test]
fn the_first_file_by_name_counts_and_the_other_is_told() {
    let mut rig = Rig::new();
    rig.write("m.yaml", "x 1\na 1");
    rig.write("n.yaml", "a 2");
    let batch = rig.folder.update(&Dirt::anything());
    assert_eq!(spell(&batch.deltas), ["+a1", "+x1"]);
    let said: Vec<_> = batch.diagnostics.iter().map(ToString::to_string).collect();
    assert_eq!(said.len(), 1);
    assert!(said[0].starts_with("n.yaml:1:1: error:"), "{said:?}");
    assert!(said[0].contains("is declared in m.yaml:2 already; that one counts"), "{said:?}");
    fs::remove_file(rig.path("m.yaml")).unwrap();
    assert_eq!(spell(&rig.at("m.yaml").deltas), ["+a2", "-x"]);
}

/// What whoever heeds all batches believes is wrong, as the admin port does.
#[derive(Default)]
struct Believed(BTreeMap<String, Vec<String>>);

impl Believed {
    fn heed(&mut self, batch: Batch) -> Vec<String> {
        for file in &batch.files {
            self.0.remove(&**file);
        }
        for said in batch.diagnostics {
            assert!(batch.files.contains(&said.file.as_str().into()), "{said}");
            self.0.entry(said.file.clone()).or_default().push(said.to_string());
        }
        self.0.values().flatten().cloned().collect()
    }
}

#[test]
fn what_was_said_of_a_file_is_taken_back() {
    let mut rig = Rig::new();
    let mut believed = Believed::default();
    rig.write("a.yaml", "a 1");
    assert_eq!(believed.heed(rig.folder.update(&Dirt::anything())).len(), 0);
    rig.write("a.yaml", "a 1\n?");
    assert_eq!(believed.heed(rig.at("a.yaml")).len(), 1);
    rig.write("a.yaml", "a 1");
    let batch = rig.at("a.yaml");
    assert!(batch.deltas.is_empty() && !batch.files.is_empty(), "{batch:?}");
    assert_eq!(believed.heed(batch).len(), 0, "restored");

    fs::write(rig.path("a.yaml"), b"\xff").unwrap();
    assert_eq!(believed.heed(rig.at("a.yaml")).len(), 1);
    assert_eq!(believed.heed(rig.folder.update(&Dirt::anything())).len(), 1);
    assert_eq!(believed.heed(rig.folder.update(&Dirt::everything())).len(), 1, "said again, not twice");
    rig.write("a.yaml", "a 1");
    assert_eq!(believed.heed(rig.at("a.yaml")).len(), 0, "the same bytes are back");

    let moved = TempDir::new().unwrap();
    fs::rename(rig.temp.path(), moved.path().join("elsewhere")).unwrap();
    assert_eq!(believed.heed(rig.folder.update(&Dirt::anything())).len(), 1);
    assert_eq!(believed.heed(rig.folder.update(&Dirt::everything())).len(), 1, "said again, not twice");
    fs::rename(moved.path().join("elsewhere"), rig.temp.path()).unwrap();
    assert_eq!(believed.heed(rig.folder.update(&Dirt::anything())).len(), 0, "the folder is back");
}

#[test]
fn a_duplicate_is_said_once_and_taken_back() {
    let mut rig = Rig::new();
    let mut believed = Believed::default();
    rig.write("m.yaml", "a 1");
    rig.write("n.yaml", "x 1\na 2\n?");
    assert_eq!(believed.heed(rig.folder.update(&Dirt::anything())).len(), 2);
    rig.write("m.yaml", "a 3");
    let batch = rig.at("m.yaml");
    assert!(batch.diagnostics.is_empty(), "nothing else is to be said: {batch:?}");
    assert_eq!(believed.heed(batch).len(), 2);
    rig.write("m.yaml", "y 1\na 3");
    let said = believed.heed(rig.at("m.yaml"));
    assert!(said.len() == 2 && said.iter().any(|said| said.contains("declared in m.yaml:2")), "{said:?}");
    assert_eq!(believed.heed(rig.folder.update(&Dirt::everything())).len(), 2);
    rig.write("n.yaml", "x 2\na 2\n?");
    assert_eq!(believed.heed(rig.at("n.yaml")).len(), 2, "the loser is edited");
    fs::remove_file(rig.path("m.yaml")).unwrap();
    assert_eq!(believed.heed(rig.at("m.yaml")).len(), 1, "the winner is gone");
    rig.write("n.yaml", "a 2\na 3");
    let said = believed.heed(rig.at("n.yaml"));
    assert!(said.len() == 1 && said[0].contains("declared in n.yaml:1"), "twice in one file: {said:?}");
}

#[test]
fn a_write_within_the_same_tick_is_found_by_the_next_look() {
    let mut rig = Rig::new();
    rig.write("a.yaml", "a 1");
    rig.all();
    // Same size, and as far as the file system's clock goes maybe the same time.
    rig.write("a.yaml", "a 2");
    assert_eq!(rig.all(), ["+a2"]);
}

#[test]
fn paths_through_hidden_entries_mean_the_folder_around_or_nothing() {
    for (path, expected) in [
        ("a.yaml", Some("a.yaml")),
        ("sub/a.yaml", Some("sub/a.yaml")),
        ("sub/..data", Some("sub")),
        ("sub/..2026/a.yaml", Some("sub")),
        ("sub/.a.yaml.swp", None),
        (".git/config", None),
    ] {
        let mut dirt = Dirt::default();
        dirt.path(Path::new(path));
        assert_eq!(
            dirt.paths.iter().map(String::as_str).collect::<Vec<_>>(),
            Vec::from_iter(expected),
            "{path}"
        );
        assert!(!dirt.anything);
    }
    for path in ["", "..data", "..2026/a.yaml"] {
        let mut dirt = Dirt::default();
        dirt.path(Path::new(path));
        assert_eq!(dirt, Dirt::anything(), "{path}");
    }
}

const CHECKS: Checks = Checks {
    regex: |_| Ok(()),
    certificate: |_, _| Err("no certificates here".to_owned()),
    ca_bundle: |_| Ok(()),
    cipher_suite: |_| Ok(()),
};

/// A manifest of an object that is right.
fn node_set(name: &str) -> String {
    format!(
        "apiVersion: portolan.dev/v1alpha1\nkind: NodeSet\nmetadata:\n  name: {name}\n  namespace: tenant-paris\nspec:\n  nodes: []\n"
    )
}

#[test]
fn a_torn_document_does_not_take_its_neighbours() {
    let (one, two) = (node_set("one"), node_set("two"));
    let whole = format!("{one}---\n{two}");
    for (what, torn, deltas) in [
        ("a border is missing", format!("{one}{two}"), &["!one"][..]),
        ("a border is spoilt", format!("{one}--\n{two}"), &["!one"]),
        ("the file ends in the first document", format!("{one}  x: [\n"), &["!one"]),
        ("the second is no YAML", format!("{one}---\n'"), &[]),
        ("the second is gone", one.clone(), &["-two"]),
    ] {
        let temp = TempDir::new().unwrap();
        let mut folder = Folder::new(temp.path(), CHECKS);
        fs::write(temp.path().join("a.yaml"), &whole).unwrap();
        folder.update(&Dirt::anything());
        fs::write(temp.path().join("a.yaml"), torn).unwrap();
        assert_eq!(spell(&folder.update(&Dirt::anything()).deltas), deltas, "{what}");
        fs::write(temp.path().join("a.yaml"), two.clone()).unwrap();
        let spelt = spell(&folder.update(&Dirt::anything()).deltas);
        assert!(
            spelt.contains(&"-one".to_owned()) && spelt.contains(&"+two0".to_owned()),
            "{what}: {spelt:?}"
        );
    }
}

#[test]
fn real_manifests_become_objects_and_words() {
    let temp = TempDir::new().unwrap();
    let mut folder = Folder::new(temp.path(), CHECKS);
    let node_set = "apiVersion: portolan.dev/v1alpha1\nkind: NodeSet\nmetadata: {name: nodes, namespace: tenant-paris}\n";
    fs::write(temp.path().join("a.yaml"), format!("{node_set}spec: {{nodes: []}}\n")).unwrap();
    fs::write(
        temp.path().join("b.yaml"),
        format!("{}spec: {{nods: []}}\n", node_set.replace("name: nodes", "name: bad")),
    )
    .unwrap();
    let batch = folder.update(&Dirt::anything());
    let [Delta::Invalid(bad, conditions), Delta::Apply(object)] = &batch.deltas[..] else {
        panic!("{batch:?}");
    };
    assert_eq!(bad.to_string(), "NodeSet tenant-paris/bad");
    assert!(conditions.iter().any(|condition| condition.message.contains("nodes")), "{conditions:?}");
    assert_eq!(object.meta.place.as_ref().map(ToString::to_string).as_deref(), Some("a.yaml:1"));
    assert!(!batch.diagnostics.is_empty());
}
