//! YAML as plain values: for manifests of Kubernetes' own kinds, which have no schema here.

use serde_json::Value;

use crate::yaml::{documents, from_node, parse};

/// Text is no YAML.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct YamlError {
    line: u32,
    message: String,
}

/// The documents of a stream.
pub fn from_yaml(stream: &str) -> Result<Vec<Value>, YamlError> {
    let mut values = Vec::new();
    for document in documents(stream) {
        let (node, problems) = parse(document.text, document.lines_before);
        if let Some(problem) = problems.first() {
            return Err(YamlError { line: problem.at.line, message: problem.message.clone() });
        }
        let Some(node) = node else { continue };
        let value = from_node(&node).map_err(|error| YamlError {
            line: error.at.map_or(0, |at| at.line),
            message: error.to_string(),
        })?;
        values.push(value);
    }
    Ok(values)
}

/// A stream of documents, as `kubectl apply -f -` takes it.
pub fn to_yaml<'a>(documents: impl IntoIterator<Item = &'a Value>) -> String {
    let texts = documents.into_iter().map(|value| serde_saphyr::to_string(value).unwrap_or_default());
    texts.map(|text| format!("---\n{text}")).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let values = [
            json!({"kind": "Secret", "stringData": {"ca.crt": "-----BEGIN\nabc=\n-----END\n", "yes": "true", "n": "1"}}),
            json!({"list": [{"port": 80, "on": true, "nothing": null}, {}], "empty": [], "text": "a: b # c"}),
        ];
        let text = to_yaml(&values);
        assert_eq!(from_yaml(&text).unwrap(), values, "{text}");
    }

    #[test]
    fn an_error_says_where() {
        let error = from_yaml("a: 1\n---\nb: [1\n").unwrap_err();
        assert!(error.to_string().starts_with("line "), "{error}");
    }
}
