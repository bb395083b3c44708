//! Writing a volume's files all at once, the way the real kubelet does, so that programs that watch for it see what they would see there.
//!
//! ```text
//!  config.yaml → ..data/config.yaml      ..data → ..7      ..7/config.yaml
//! ```
//!
//! A change writes `..8` beside `..7` and renames a new `..data` over the old one.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::Path;

use super::Files;

const DATA: &str = "..data";

/// Makes a folder hold these files and no others. Says whether anything had to change.
pub(crate) fn swap(dir: &Path, files: &Files) -> io::Result<bool> {
    fs::create_dir_all(dir)?;
    let link = dir.join(DATA);
    let old = fs::read_link(&link).ok();
    if old.is_some() && holds(&link, files)? {
        return Ok(false);
    }
    let number = old.as_deref().and_then(Path::to_str).and_then(|name| name[2..].parse::<u64>().ok());
    let new = format!("..{}", number.map_or(1, |number| number + 1));
    let folder = dir.join(&new);
    // What a predecessor that was killed left half-written.
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir(&folder)?;
    for (path, (bytes, mode)) in files {
        let path = folder.join(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::File::options().create_new(true).write(true).mode(*mode).open(&path)?.write_all(bytes)?;
        // The mode above is less what our umask takes.
        fs::set_permissions(&path, fs::Permissions::from_mode(*mode))?;
    }
    let next = dir.join("..data_tmp");
    let _ = fs::remove_file(&next);
    symlink(&new, &next)?;
    fs::rename(&next, &link)?;
    let wanted: BTreeSet<_> = files.keys().filter_map(|path| path.split('/').next()).collect();
    for name in &wanted {
        let path = dir.join(name);
        if fs::symlink_metadata(&path).is_err() {
            symlink(Path::new(DATA).join(name), &path)?;
        }
    }
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with("..") && !wanted.contains(name.as_str()) {
            fs::remove_file(entry.path())?;
        }
    }
    if let Some(old) = old {
        fs::remove_dir_all(dir.join(old))?;
    }
    Ok(true)
}

/// Whether a folder holds just these files.
fn holds(folder: &Path, files: &Files) -> io::Result<bool> {
    let same = |(path, (bytes, mode)): (&String, &(Vec<u8>, u32))| {
        let path = folder.join(path);
        let old = fs::metadata(&path).map(|data| data.permissions().mode() & 0o777);
        old.is_ok_and(|old| old == *mode) && fs::read(&path).is_ok_and(|old| &old == bytes)
    };
    Ok(count(folder)? == files.len() && files.iter().all(same))
}

fn count(folder: &Path) -> io::Result<usize> {
    let mut found = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        found += if entry.file_type()?.is_dir() { count(&entry.path())? } else { 1 };
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(list: &[(&str, &str)]) -> Files {
        list.iter().map(|(path, text)| ((*path).to_owned(), (text.as_bytes().to_vec(), 0o640))).collect()
    }

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).expect("a folder");
        let mut names: Vec<_> = entries
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn files_change_together() {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = folder.path().join("volume");
        let read = |name: &str| fs::read_to_string(dir.join(name)).expect("a file");
        assert!(swap(&dir, &files(&[("a", "1"), ("deep/b", "2")])).expect("written"));
        assert_eq!((read("a"), read("deep/b")), ("1".to_owned(), "2".to_owned()));
        assert_eq!(names(&dir), ["..1", "..data", "a", "deep"]);
        let mode = fs::metadata(dir.join("a")).expect("there").permissions().mode() & 0o777;
        assert_eq!(mode, 0o640);
        assert!(!swap(&dir, &files(&[("a", "1"), ("deep/b", "2")])).expect("the same"));
        assert!(swap(&dir, &files(&[("a", "3"), ("c", "4")])).expect("written"));
        assert_eq!((read("a"), read("c")), ("3".to_owned(), "4".to_owned()));
        assert_eq!(names(&dir), ["..2", "..data", "a", "c"]);
        assert!(swap(&dir, &files(&[])).expect("written"));
        assert_eq!(names(&dir), ["..3", "..data"]);
    }
}
