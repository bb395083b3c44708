//! The lines of a journal.
//!
//! `{"sum":"<16 hexadecimal digits>",…}`: the digits are the first of the SHA-256 of all that follows them, up to the line's end.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};

use portolan_model::id::{Kind, ObjectRef};
use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

/// The form that is written and read here.
const FORM: u32 = 1;
const SUM: &str = r#"{"sum":""#;
const DIGITS: usize = 16;

/// A line that was read.
pub(crate) struct Line<'a> {
    /// With its end.
    pub(crate) text: &'a [u8],
    pub(crate) content: Content<'a>,
}

/// What a line says.
pub(crate) enum Content<'a> {
    /// Whose journal it is.
    Header { server: String },
    /// An object is there.
    Object { kind: Kind, object: &'a RawValue },
    /// An object is gone.
    Gone,
}

/// A line as it is spelled, but for its checksum.
#[derive(Deserialize)]
struct Spelled<'a> {
    #[serde(default)]
    form: Option<u32>,
    #[serde(default)]
    server: Option<String>,
    #[serde(default)]
    kind: Option<String>,
    #[serde(default)]
    namespace: Option<String>,
    #[serde(default)]
    name: Option<String>,
    #[serde(borrow, default)]
    object: Option<&'a RawValue>,
}

pub(crate) fn header(server: &str) -> Vec<u8> {
    let fields = format!(r#""form":{FORM},"server":{}"#, quoted(server));
    sealed(&fields)
}

pub(crate) fn object(id: &ObjectRef, text: &str) -> Vec<u8> {
    sealed(&format!(r#"{},"object":{text}"#, named(id)))
}

pub(crate) fn gone(id: &ObjectRef) -> Vec<u8> {
    sealed(&named(id))
}

fn named(id: &ObjectRef) -> String {
    let (namespace, name) = (quoted(&id.namespace), quoted(&id.name));
    format!(r#""kind":"{}","namespace":{namespace},"name":{name}"#, id.kind)
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn sealed(fields: &str) -> Vec<u8> {
    let rest = format!(r#"",{fields}}}"#);
    let mut line = Vec::with_capacity(SUM.len() + DIGITS + rest.len() + 1);
    line.extend_from_slice(SUM.as_bytes());
    line.extend_from_slice(sum(rest.as_bytes()).as_bytes());
    line.extend_from_slice(rest.as_bytes());
    line.push(b'\n');
    line
}

fn sum(rest: &[u8]) -> String {
    let digest = Sha256::digest(rest);
    digest.iter().take(DIGITS / 2).map(|byte| format!("{byte:02x}")).collect()
}

/// What a line says, and of which object; `None` where it is torn, was changed or is of a form that nobody knows here.
fn parsed(line: &[u8]) -> Option<(Content<'_>, Option<u64>)> {
    let line = line.strip_suffix(b"\n")?;
    let rest = line.strip_prefix(SUM.as_bytes())?;
    let (digits, rest) = rest.split_at_checked(DIGITS)?;
    if sum(rest).as_bytes() != digits {
        return None;
    }
    let spelled: Spelled<'_> = serde_json::from_slice(line).ok()?;
    if let (Some(form), Some(server)) = (spelled.form, spelled.server) {
        return (form == FORM).then_some((Content::Header { server }, None));
    }
    let (kind, namespace, name) = (spelled.kind?, spelled.namespace?, spelled.name?);
    let kind = Kind::ALL.into_iter().find(|known| known.as_str() == kind)?;
    let mut hasher = DefaultHasher::new();
    (kind, namespace, name).hash(&mut hasher);
    let content = spelled.object.map_or(Content::Gone, |object| Content::Object { kind, object });
    Some((content, Some(hasher.finish())))
}

/// Where the last line about each object that is there begins, in the order of the file. `told` is told of every line.
pub(crate) fn last(
    file: &mut (impl Read + Seek),
    mut told: impl FnMut(usize, Option<&Content<'_>>) -> io::Result<()>,
) -> io::Result<Vec<u64>> {
    file.seek(SeekFrom::Start(0))?;
    let mut reader = BufReader::with_capacity(1 << 16, file);
    let mut last: HashMap<u64, u64> = HashMap::new();
    let (mut at, mut line) = (0, Vec::new());
    for number in 1.. {
        line.clear();
        let length = reader.read_until(b'\n', &mut line)?;
        if length == 0 {
            break;
        }
        let parsed = parsed(&line);
        told(number, parsed.as_ref().map(|(content, _)| content))?;
        match parsed {
            Some((Content::Gone, Some(id))) => drop(last.remove(&id)),
            Some((_, Some(id))) => drop(last.insert(id, at)),
            Some((_, None)) | None => {}
        }
        at += length as u64;
    }
    let mut places: Vec<u64> = last.into_values().collect();
    places.sort_unstable();
    Ok(places)
}

/// The lines that begin at these places.
pub(crate) fn at(
    file: &mut (impl Read + Seek),
    places: &[u64],
    mut found: impl FnMut(Line<'_>) -> io::Result<()>,
) -> io::Result<()> {
    file.seek(SeekFrom::Start(0))?;
    let mut reader = BufReader::with_capacity(1 << 16, file);
    let (mut here, mut line) = (0, Vec::new());
    for &place in places {
        // Within what is buffered this costs nothing.
        reader.seek_relative(i64::try_from(place - here).map_err(io::Error::other)?)?;
        line.clear();
        here = place + reader.read_until(b'\n', &mut line)? as u64;
        if let Some((content, _)) = parsed(&line) {
            found(Line { text: &line, content })?;
        }
    }
    Ok(())
}
