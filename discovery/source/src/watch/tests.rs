use std::os::unix::fs::symlink;

use tempfile::TempDir;
use tokio::time::timeout;

use super::*;
use crate::folder::tests::{line_reader, spell};

const SOON: Duration = Duration::from_secs(20);

struct Rig {
    temp: TempDir,
    watch: FolderWatch,
    batches: mpsc::Receiver<Batch>,
}

impl Rig {
    /// A watched folder with these files, its first batch taken.
    async fn new(files: &[(&str, &str)]) -> (Self, Vec<String>) {
        let temp = TempDir::new().unwrap();
        for (file, text) in files {
            fs::write(temp.path().join(file), text).unwrap();
        }
        let (sender, mut batches) = mpsc::channel(16);
        let watch =
            FolderWatch::start(Folder::with_readers(temp.path(), || line_reader(&Arc::default())), sender)
                .unwrap();
        let first = timeout(SOON, batches.recv()).await.unwrap().unwrap();
        assert!(first.first);
        (Self { temp, watch, batches }, spell(&first.deltas))
    }

    fn path(&self, file: &str) -> PathBuf {
        self.temp.path().join(file)
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.path(file), text).unwrap();
    }

    /// Writes a file in one step.
    fn put(&self, file: &str, text: &str) {
        self.write("new", text);
        fs::rename(self.path("new"), self.path(file)).unwrap();
    }

    async fn next(&mut self) -> Vec<String> {
        let batch = timeout(SOON, self.batches.recv()).await.unwrap().unwrap();
        assert!(!batch.first);
        spell(&batch.deltas)
    }

    /// Takes batches until these deltas have come, in whatever portions.
    async fn expect(&mut self, expected: &[&str]) {
        let mut seen = Vec::new();
        while seen.len() < expected.len() {
            seen.extend(self.next().await);
        }
        assert_eq!(seen, expected);
    }
}

#[tokio::test]
async fn the_first_batch_holds_everything() {
    let (_rig, first) = Rig::new(&[("a.yaml", "a 1"), ("b.yaml", "b 1")]).await;
    assert_eq!(first, ["+a1", "+b1"]);
    let (_rig, first) = Rig::new(&[]).await;
    assert!(first.is_empty(), "an empty folder has a first batch too");
}

#[tokio::test]
async fn changes_arrive() {
    let (mut rig, _) = Rig::new(&[("a.yaml", "a 1")]).await;
    rig.write("a.yaml", "a 2");
    rig.expect(&["+a2"]).await;
    rig.write("b.yaml", "b 1");
    rig.expect(&["+b1"]).await;
    rig.write("b.yaml.tmp", "b 2");
    fs::rename(rig.path("b.yaml.tmp"), rig.path("b.yaml")).unwrap();
    rig.expect(&["+b2"]).await;
    fs::remove_file(rig.path("b.yaml")).unwrap();
    rig.expect(&["-b"]).await;
    fs::create_dir_all(rig.path("sub/deep")).unwrap();
    rig.write("sub/deep/c.yaml", "c 1");
    rig.expect(&["+c1"]).await;
    rig.write("sub/deep/c.yaml", "c 2");
    rig.expect(&["+c2"]).await;
    fs::remove_dir_all(rig.path("sub")).unwrap();
    rig.expect(&["-c"]).await;
}

#[tokio::test]
async fn a_file_may_become_a_folder() {
    let (mut rig, _) = Rig::new(&[("a.yaml", "a 1")]).await;
    fs::remove_file(rig.path("a.yaml")).unwrap();
    fs::create_dir(rig.path("a.yaml")).unwrap();
    rig.write("a.yaml/b.yaml", "b 1");
    let mut seen = Vec::new();
    while seen.len() < 2 {
        seen.extend(rig.next().await);
    }
    seen.sort();
    assert_eq!(seen, ["+b1", "-a"]);
}

#[tokio::test]
async fn swapped_links_arrive_in_one_step() {
    let (mut rig, _) = Rig::new(&[]).await;
    let version = |rig: &Rig, name: &str, generation: u32| {
        fs::create_dir(rig.path(name)).unwrap();
        for object in ["a", "b"] {
            rig.write(&format!("{name}/{object}.yaml"), &format!("{object} {generation}"));
        }
        symlink(name, rig.path("..data_tmp")).unwrap();
        fs::rename(rig.path("..data_tmp"), rig.path("..data")).unwrap();
    };
    version(&rig, "..one", 1);
    for object in ["a", "b"] {
        symlink(format!("..data/{object}.yaml"), rig.path(&format!("{object}.yaml"))).unwrap();
    }
    rig.expect(&["+a1", "+b1"]).await;
    version(&rig, "..two", 2);
    assert_eq!(rig.next().await, ["+a2", "+b2"]);
}

#[tokio::test]
async fn a_burst_is_few_steps() {
    let (mut rig, _) = Rig::new(&[]).await;
    for number in 0..200 {
        rig.write(&format!("{number}.yaml"), &format!("o{number} 1"));
    }
    let (mut seen, mut steps) = (0, 0);
    while seen < 200 {
        seen += rig.next().await.len();
        steps += 1;
    }
    assert_eq!(seen, 200);
    assert!(steps < 20, "{steps}");
}

#[tokio::test]
async fn polling_finds_what_events_miss() {
    let outside = TempDir::new().unwrap();
    let target = outside.path().join("a.yaml");
    fs::write(&target, "a 1").unwrap();
    let (mut rig, _) = Rig::new(&[]).await;
    symlink(&target, rig.path("a.yaml")).unwrap();
    rig.expect(&["+a1"]).await;
    fs::write(&target, "a 22").unwrap();
    rig.expect(&["+a22"]).await;
}

#[tokio::test]
async fn a_replaced_folder_is_watched_again() {
    let (mut rig, _) = Rig::new(&[("a.yaml", "a 1")]).await;
    let aside = TempDir::new().unwrap();
    fs::rename(rig.temp.path(), aside.path().join("old")).unwrap();
    fs::create_dir(rig.temp.path()).unwrap();
    rig.write("b.yaml", "b 1");
    let mut seen = Vec::new();
    while seen.len() < 2 {
        seen.extend(rig.next().await);
    }
    seen.sort();
    assert_eq!(seen, ["+b1", "-a"]);
    rig.write("b.yaml", "b 2");
    rig.expect(&["+b2"]).await;
}

#[tokio::test]
async fn a_reload_says_again_what_is_wrong() {
    let (mut rig, _) = Rig::new(&[("a.yaml", "?")]).await;
    rig.watch.reload();
    let batch = timeout(SOON, rig.batches.recv()).await.unwrap().unwrap();
    assert_eq!(batch.diagnostics.len(), 1);
}

#[tokio::test]
async fn a_restored_file_is_no_longer_told_of() {
    let (mut rig, _) = Rig::new(&[("a.yaml", "a 1")]).await;
    rig.put("a.yaml", "a 1\n?");
    let broken = timeout(SOON, rig.batches.recv()).await.unwrap().unwrap();
    assert_eq!(broken.diagnostics.len(), 1);
    rig.put("a.yaml", "a 1");
    let restored = timeout(SOON, rig.batches.recv()).await.unwrap().unwrap();
    assert!(restored.diagnostics.is_empty() && *restored.files == ["a.yaml".into()], "{restored:?}");
}

#[test]
fn events_of_a_relative_folder_name_its_files() {
    let temp = TempDir::new().unwrap();
    let here = std::env::current_dir().unwrap();
    let up = "../".repeat(here.components().count() - 1);
    let relative = Path::new(&up).join(temp.path().strip_prefix("/").unwrap());
    assert!(relative.is_relative() && relative.is_dir());
    let folder = Folder::with_readers(relative, || line_reader(&Arc::default()));
    let shared = Arc::default();
    let _watched = Watched::new(folder.root(), &shared);
    fs::write(temp.path().join("a.yaml"), "a 1").unwrap();
    let mut expected = Dirt::default();
    expected.path(Path::new("a.yaml"));
    assert_eq!(shared.wait(Instant::now() + SOON), Some(expected));
}

/// A folder that is reached by a link, which is swapped: events tell, not the poll.
#[test]
fn a_swap_of_the_folder_itself_is_an_event() {
    let temp = TempDir::new().unwrap();
    for version in ["one", "two"] {
        fs::create_dir(temp.path().join(version)).unwrap();
    }
    let (root, aside) = (temp.path().join("config"), temp.path().join("aside"));
    symlink("one", &root).unwrap();
    let shared = Arc::default();
    let watched = Watched::new(&root, &shared);
    fs::write(temp.path().join("beside"), "of no concern").unwrap();
    symlink("two", &aside).unwrap();
    fs::rename(&aside, &root).unwrap();
    let began = Instant::now();
    assert_eq!(shared.wait(began + SOON), Some(Dirt::anything()));
    assert!(began.elapsed() < SOON && watched.is_stale(&root));
    let _watched = Watched::new(&root, &shared);
    assert_eq!(told_of(&shared, &root, "a.yaml"), "a.yaml");
}

/// Writes a file, and gives the path by which it is told of.
fn told_of(shared: &Shared, root: &Path, file: &str) -> String {
    fs::write(root.join(file), "a 1").unwrap();
    let dirt = shared.wait(Instant::now() + SOON).unwrap();
    assert!(!dirt.anything, "by the poll");
    dirt.paths.into_iter().collect::<Vec<_>>().join(" ")
}

/// A folder that a link leads back to is told of by its own path, while the link is there and after.
#[test]
fn links_inside_do_not_rename_what_they_lead_to() {
    let temp = TempDir::new().unwrap();
    for folder in ["a", "b"] {
        fs::create_dir(temp.path().join(folder)).unwrap();
    }
    symlink("..", temp.path().join("b/up")).unwrap();
    symlink("../a", temp.path().join("b/a")).unwrap();
    let shared = Arc::default();
    let _watched = Watched::new(temp.path(), &shared);
    assert_eq!(told_of(&shared, temp.path(), "1.yaml"), "1.yaml");
    assert_eq!(told_of(&shared, temp.path(), "a/2.yaml"), "a/2.yaml");
    fs::remove_dir_all(temp.path().join("b")).unwrap();
    let _ = shared.wait(Instant::now() + SOON);
    assert_eq!(told_of(&shared, temp.path(), "a/3.yaml"), "a/3.yaml");
}

#[tokio::test]
async fn it_ends_when_dropped() {
    let (mut rig, _) = Rig::new(&[]).await;
    drop(rig.watch);
    assert!(timeout(SOON, rig.batches.recv()).await.unwrap().is_none());
}
