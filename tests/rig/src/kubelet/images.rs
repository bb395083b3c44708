//! Which binary does an image stand for?
//!
//! The file `images.yaml` says it: the name of an image, with a tag or without, and the path of a binary. It is read anew for each question, so
//! that a test can add to it while a node runs.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// The images that a node can run.
#[derive(Debug)]
pub(crate) struct Images {
    file: PathBuf,
}

impl Images {
    /// Those of a file.
    pub(crate) fn of(file: PathBuf) -> Self {
        Self { file }
    }

    /// The binary of an image, or why there is none.
    pub(crate) fn binary(&self, image: &str) -> Result<PathBuf, String> {
        let known: BTreeMap<String, PathBuf> = std::fs::read_to_string(&self.file)
            .map_err(|error| error.to_string())
            .and_then(|text| serde_saphyr::from_str(&text).map_err(|error| error.to_string()))
            .map_err(|error| format!("cannot read {}: {error}", self.file.display()))?;
        let found = spellings(image).find_map(|name| known.get(name));
        let path = found.ok_or_else(|| format!("image {image:?} is not in {}", self.file.display()))?;
        if path.is_file() {
            Ok(path.clone())
        } else {
            Err(format!("the binary of image {image:?} is not there: {}", path.display()))
        }
    }
}

/// What an image may be called in the file: as it is, without its digest, without its tag.
fn spellings(image: &str) -> impl Iterator<Item = &str> {
    let undigested = image.split_once('@').map_or(image, |(name, _)| name);
    let slash = undigested.rfind('/').map_or(0, |at| at + 1);
    let untagged = undigested[slash..].find(':').map_or(undigested, |at| &undigested[..slash + at]);
    [image, undigested, untagged].into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_known_by_its_name_with_tag_or_without() {
        let folder = tempfile::tempdir().expect("a folder");
        let (file, echo) = (folder.path().join("images.yaml"), folder.path().join("echo"));
        std::fs::write(&echo, "").expect("written");
        let path = echo.display();
        std::fs::write(&file, format!("registry:5000/echo: {path}\necho:v1: {path}\ngone: {path}.none\n"))
            .expect("written");
        let images = Images::of(file);
        for known in
            ["registry:5000/echo", "registry:5000/echo:v2", "registry:5000/echo:v2@sha256:0", "echo:v1"]
        {
            assert_eq!(images.binary(known).as_ref(), Ok(&echo), "{known}");
        }
        for (unknown, why) in [("echo:v2", "is not in"), ("echo", "is not in"), ("gone:v1", "is not there")] {
            let said = images.binary(unknown).expect_err(unknown);
            assert!(said.contains(why), "{unknown}: {said}");
        }
    }
}
