use portolan_model::id::Kind;
use portolan_model::intent::{Meta, Spec};
use portolan_model::inventory::NodeSet;
use proptest::prelude::*;

use super::*;

fn id(name: &str) -> ObjectRef {
    ObjectRef::new(Kind::NodeSet, "tenant-paris", name)
}

fn valid(name: &str, generation: i64) -> Entry {
    Entry::Valid(Arc::new(Object {
        meta: Meta { id: id(name), created: None, generation, origin: None, host: None, place: None },
        spec: Spec::NodeSet(NodeSet { nodes: Vec::new() }),
    }))
}

fn invalid(name: &str) -> Entry {
    Entry::Invalid(Arc::new((id(name), Vec::new())))
}

fn step(index: &mut Index, files: &[(&str, &[Entry])]) -> (Vec<String>, Vec<String>) {
    let mut change = Change::default();
    for (file, entries) in files {
        index.set(&mut change, &Arc::from(*file), entries.to_vec());
    }
    let (deltas, touched) = index.finish(change);
    let duplicates: Vec<_> = touched.iter().flat_map(|file| index.duplicates(file)).collect();
    let deltas = deltas
        .iter()
        .map(|delta| match delta {
            Delta::Apply(object) => format!("+{}{}", object.meta.id.name, object.meta.generation),
            Delta::Delete(id) => format!("-{}", id.name),
            Delta::Invalid(id, _) => format!("!{}", id.name),
        })
        .collect();
    (deltas, duplicates.iter().map(spell_duplicate).collect())
}

fn spell_duplicate(duplicate: &Duplicate) -> String {
    format!("{} in {} after {}", duplicate.id.name, duplicate.file, duplicate.first_file)
}

#[test]
fn steps_come_to_what_changed() {
    let mut index = Index::default();
    let mut expect = |files: &[(&str, &[Entry])], deltas: &[&str], duplicates: &[&str], what: &str| {
        let (had_deltas, had_duplicates) = step(&mut index, files);
        assert_eq!(had_deltas, deltas, "{what}");
        assert_eq!(had_duplicates, duplicates, "{what}");
    };
    expect(&[("m", &[valid("a", 1), valid("b", 1)])], &["+a1", "+b1"], &[], "a new file");
    expect(&[("m", &[valid("a", 1), valid("b", 2)])], &["+b2"], &[], "one of two objects changes");
    expect(&[("m", &[valid("b", 2), valid("a", 1)])], &[], &[], "the order within a file means nothing");
    expect(&[("m", &[invalid("b"), valid("a", 1)])], &["!b"], &[], "an object becomes invalid");
    expect(&[("m", &[valid("b", 2), valid("a", 1)])], &["+b2"], &[], "and valid again");
    expect(&[("z", &[valid("a", 9)])], &[], &["a in z after m"], "a later file does not count");
    expect(
        &[("c", &[valid("a", 3)])],
        &["+a3"],
        &["a in m after c", "a in z after c"],
        "an earlier one does",
    );
    expect(&[("c", &[])], &["+a1"], &["a in z after m"], "the next takes over");
    expect(&[("m", &[])], &["+a9", "-b"], &[], "a file vanishes");
    expect(&[("y", &[valid("a", 9)]), ("z", &[])], &[], &[], "an object moves without a change");
    expect(&[("y", &[valid("a", 9), valid("a", 5)])], &[], &["a in y after y"], "twice in one file");
    expect(&[("y", &[])], &["-a"], &[], "all is gone");
    assert!(index.objects.is_empty() && index.by_name.is_empty());
}

proptest! {
    #[test]
    fn deltas_add_up_to_what_counts(
        steps in prop::collection::vec(prop::collection::vec((0usize..4, prop::collection::vec((0usize..4, 0i64..3), 0..4)), 1..3), 0..12)
    ) {
        let names = ["f0", "f1", "f2", "f3"];
        let (mut index, mut files, mut seen) = (Index::default(), BTreeMap::new(), BTreeMap::new());
        let mut told = BTreeMap::new();
        for step in steps {
            let mut change = Change::default();
            let mut touched: BTreeSet<Arc<str>> = step.iter().map(|(file, _)| names[*file].into()).collect();
            for (file, objects) in step {
                let entries: Vec<_> = objects.iter().map(|(name, generation)| valid(names[*name], *generation)).collect();
                files.insert(names[file], entries.clone());
                index.set(&mut change, &names[file].into(), entries);
            }
            let (deltas, others) = index.finish(change);
            touched.extend(others);
            for file in touched {
                let lost: Vec<_> = index.duplicates(&file).iter().map(spell_duplicate).collect();
                told.insert(file, lost);
            }
            for delta in deltas {
                match delta {
                    Delta::Apply(object) => { seen.insert(object.meta.id.clone(), object); }
                    Delta::Delete(id) => { prop_assert!(seen.remove(&id).is_some()); }
                    Delta::Invalid(..) => prop_assert!(false),
                }
            }
            let (mut expected, mut first, mut lost) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
            for (file, entry) in files.iter().flat_map(|(file, entries)| entries.iter().map(move |entry| (file, entry))) {
                if let Entry::Valid(object) = entry {
                    let name = &object.meta.id.name;
                    match first.get(name) {
                        Some(first) => lost.push(format!("{name} in {file} after {first}")),
                        None => _ = first.insert(name.clone(), file),
                    }
                    expected.entry(object.meta.id.clone()).or_insert_with(|| Arc::clone(object));
                }
            }
            prop_assert_eq!(&seen, &expected);
            prop_assert_eq!(told.values().flatten().collect::<Vec<_>>(), lost.iter().collect::<Vec<_>>());
        }
    }
}
