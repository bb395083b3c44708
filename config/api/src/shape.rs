//! Does a tree have the shape that the API's schema demands?
//!
//! The schema is the one of the generated CRDs, so that a folder refuses what an API server refuses, in better words:
//! all of it at once, with the place and with what was probably meant. Patterns and CEL rules are left to the
//! conversion into the model, which states the same in full. Cost: one walk over the tree.

use std::sync::LazyLock;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray,
};
use portolan_model::id::Kind;

use crate::crds::definitions;
use crate::diagnostic::shorten;
use crate::field::{At, FieldPath, nearest};
use crate::kinds::DURATION_PATTERN;
use crate::yaml::{Entry, Node, Position, Scalar, Value};

/// Of more than this in one object nothing is told.
const MAX_MISFITS: usize = 256;

/// Something that does not fit.
#[derive(Debug)]
pub(crate) struct Misfit {
    pub(crate) path: FieldPath,
    pub(crate) at: Position,
    pub(crate) found: String,
    pub(crate) message: String,
    pub(crate) expected: Option<String>,
    pub(crate) suggestion: Option<String>,
    /// Whether the typed value cannot be had because of it.
    pub(crate) fatal: bool,
}

/// What a value must look like.
#[derive(Debug)]
pub(crate) struct Shape {
    nullable: bool,
    form: Form,
}

#[derive(Debug)]
enum Form {
    Any,
    Boolean,
    /// Both ends included.
    Integer(i128, i128),
    IntegerOrText,
    /// The values allowed (all without), and how many characters.
    Text(Vec<String>, usize, usize),
    /// A [`GoDuration`](crate::kinds::GoDuration).
    Duration,
    /// What is in it, and how much.
    List(Box<Shape>, usize, usize),
    Mapping(Vec<Field>),
}

#[derive(Debug)]
struct Field {
    name: String,
    required: bool,
    shape: Shape,
}

/// The shape of the `spec` of one of our own kinds.
pub(crate) fn spec_shape(kind: Kind) -> Option<&'static Shape> {
    static SHAPES: LazyLock<Vec<(String, Shape)>> =
        LazyLock::new(|| definitions().iter().filter_map(definition_shape).collect());
    SHAPES.iter().find(|(name, _)| name == kind.as_str()).map(|(_, shape)| shape)
}

fn definition_shape(definition: &CustomResourceDefinition) -> Option<(String, Shape)> {
    let schema = definition.spec.versions.first()?.schema.as_ref()?.open_api_v3_schema.as_ref()?;
    let spec = schema.properties.as_ref()?.get("spec")?;
    Some((definition.spec.names.kind.clone(), Shape::of(spec)))
}

impl Shape {
    fn of(schema: &JSONSchemaProps) -> Self {
        let size = |bound: Option<i64>, default: usize| {
            bound.and_then(|bound| usize::try_from(bound).ok()).unwrap_or(default)
        };
        // Bounds of integers are integers.
        let limit = |bound: Option<f64>, default: i128| bound.map_or(default, |bound| bound as i128);
        let form = if schema.x_kubernetes_int_or_string == Some(true) {
            Form::IntegerOrText
        } else {
            match schema.type_.as_deref() {
                Some("boolean") => Form::Boolean,
                Some("integer") => {
                    Form::Integer(limit(schema.minimum, i128::MIN), limit(schema.maximum, i128::MAX))
                }
                Some("string") if schema.pattern.as_deref() == Some(DURATION_PATTERN) => Form::Duration,
                Some("string") => {
                    let values = schema.enum_.iter().flatten();
                    let values = values.filter_map(|value| value.0.as_str().map(str::to_owned)).collect();
                    Form::Text(values, size(schema.min_length, 0), size(schema.max_length, usize::MAX))
                }
                Some("array") => {
                    let items = match &schema.items {
                        Some(JSONSchemaPropsOrArray::Schema(items)) => Shape::of(items),
                        _ => Shape { nullable: true, form: Form::Any },
                    };
                    Form::List(Box::new(items), size(schema.min_items, 0), size(schema.max_items, usize::MAX))
                }
                Some("object") => {
                    let required = schema.required.as_deref().unwrap_or_default();
                    let fields = schema.properties.iter().flatten();
                    Form::Mapping(
                        fields
                            .map(|(name, schema)| Field {
                                name: name.clone(),
                                required: required.contains(name),
                                shape: Shape::of(schema),
                            })
                            .collect(),
                    )
                }
                _ => Form::Any,
            }
        };
        Self { nullable: schema.nullable == Some(true), form }
    }

    /// Adds to `misfits` whatever does not fit. `owner` is where to point when something is missing.
    pub(crate) fn check(&self, node: &Node<'_>, path: &At<'_>, owner: Position, misfits: &mut Vec<Misfit>) {
        if (self.nullable && node.is_null()) || misfits.len() >= MAX_MISFITS {
            return;
        }
        let misfit = |message: &str, fatal| Misfit {
            path: path.path(),
            at: if matches!(node.value, Value::Scalar(..)) { node.at } else { owner },
            found: excerpt(node),
            message: message.to_owned(),
            expected: None,
            suggestion: None,
            fatal,
        };
        match (&self.form, &node.value) {
            (Form::Any, _) => {}
            (Form::Mapping(fields), Value::Mapping(entries)) => {
                check_fields(fields, entries, path, owner, misfits);
            }
            (Form::List(shape, least, most), Value::Sequence(items)) => {
                if items.len() < *least || items.len() > *most {
                    misfits.push(Misfit {
                        expected: Some(between(*least, *most, "items")),
                        ..misfit(&format!("has {} items", items.len()), items.len() > *most)
                    });
                }
                for (index, item) in items.iter().enumerate().take(*most) {
                    shape.check(item, &path.index(index), item.at, misfits);
                }
            }
            (Form::Text(values, least, most), Value::Scalar(text, _)) if node.text().is_some() => {
                let length = text.chars().count();
                if !values.is_empty() && !values.iter().any(|value| value == text) {
                    misfits.push(Misfit {
                        expected: self.expected(),
                        suggestion: nearest(text, values.iter().map(String::as_str)).map(str::to_owned),
                        ..misfit(&format!("{:?} is not a known value", shorten(text)), true)
                    });
                } else if length < *least || length > *most {
                    misfits.push(Misfit {
                        expected: Some(between(*least, *most, "characters")),
                        ..misfit(
                            &if length == 0 {
                                "must not be empty".to_owned()
                            } else {
                                format!("is {length} characters long")
                            },
                            false,
                        )
                    });
                }
            }
            (form, value) => {
                let ok = match (form, node.scalar()) {
                    (Form::Boolean, Some(Scalar::Bool(_)))
                    | (Form::Duration | Form::IntegerOrText, Some(Scalar::Text(_))) => true,
                    (Form::IntegerOrText, Some(Scalar::Int(number))) => number >= 0,
                    (Form::Integer(least, most), Some(Scalar::Int(number))) => {
                        if !(*least..=*most).contains(&number) {
                            misfits.push(Misfit {
                                expected: self.expected(),
                                ..misfit(&format!("{number} is out of bounds"), true)
                            });
                        }
                        true
                    }
                    _ => false,
                };
                if !ok {
                    misfits.push(Misfit {
                        expected: self.expected(),
                        suggestion: self.suggestion(value),
                        ..misfit(&format!("{} where {} belongs", node.describe(), self.describe()), true)
                    });
                }
            }
        }
    }

    fn describe(&self) -> &'static str {
        match &self.form {
            Form::Any => "anything",
            Form::Boolean => "a boolean",
            Form::Integer(..) => "an integer",
            Form::IntegerOrText => "an integer or a string",
            Form::Text(..) => "a string",
            Form::Duration => "a duration",
            Form::List(..) => "a list",
            Form::Mapping(_) => "a mapping",
        }
    }

    fn expected(&self) -> Option<String> {
        match &self.form {
            Form::Boolean => Some("true or false".to_owned()),
            Form::Duration => Some("numbers with h, m, s or ms, such as 10s, 1m30s or 500ms".to_owned()),
            Form::Integer(least, most) if *least != i128::MIN && *most != i128::MAX => {
                Some(format!("an integer from {least} to {most}"))
            }
            Form::Text(values, ..) if !values.is_empty() => Some(one_of(values.iter().map(String::as_str))),
            Form::Mapping(fields) if !fields.is_empty() => {
                let names = fields.iter().map(|field| field.name.as_str());
                Some(format!("a mapping with {}", names.collect::<Vec<_>>().join(", ")))
            }
            _ => None,
        }
    }

    /// What was probably meant by a scalar of another type.
    fn suggestion(&self, value: &Value<'_>) -> Option<String> {
        let Value::Scalar(text, plain) = value else { return None };
        match &self.form {
            Form::Boolean => match text.to_ascii_lowercase().as_str() {
                "yes" | "y" | "on" | "true" => Some("true".to_owned()),
                "no" | "n" | "off" | "false" => Some("false".to_owned()),
                _ => None,
            },
            Form::Text(values, ..) if *plain && !text.is_empty() => {
                let value = if values.is_empty() {
                    Some(&**text)
                } else {
                    values.iter().map(String::as_str).find(|value| value.eq_ignore_ascii_case(text))
                };
                value.map(|value| format!("\"{}\"", shorten(value)))
            }
            Form::Duration if text.parse::<u16>().is_ok() => Some(format!("{text}s")),
            Form::Integer(..) if text.parse::<u64>().is_ok() => Some(text.to_string()),
            Form::List(shape, ..) if matches!(shape.form, Form::Text(..)) && !text.is_empty() => {
                Some(format!("[{}]", shorten(text)))
            }
            _ => None,
        }
    }
}

fn check_fields(
    fields: &[Field],
    entries: &[Entry<'_>],
    path: &At<'_>,
    owner: Position,
    misfits: &mut Vec<Misfit>,
) {
    let mut unknown_fields = Vec::new();
    for entry in entries {
        match fields.iter().find(|field| field.name == entry.key) {
            Some(field) => {
                field.shape.check(&entry.value, &path.field(&entry.key), entry.at, misfits);
            }
            None if misfits.len() + unknown_fields.len() >= MAX_MISFITS => break,
            None => unknown_fields.push(unknown(
                entry,
                fields.iter().map(|field| field.name.as_str()),
                Some(path),
            )),
        }
    }
    for field in fields.iter().filter(|field| field.required) {
        let misspelt =
            unknown_fields.iter_mut().find(|misfit| misfit.suggestion.as_ref() == Some(&field.name));
        if let Some(misspelt) = misspelt {
            // Said once: what is missing is there under another name.
            misspelt.fatal = true;
        } else if !entries.iter().any(|entry| entry.key == field.name) {
            misfits.push(Misfit {
                path: path.field(&field.name).path(),
                at: owner,
                found: String::new(),
                message: format!("the field {:?} is missing", field.name),
                expected: None,
                suggestion: None,
                fatal: true,
            });
        }
    }
    misfits.append(&mut unknown_fields);
}

/// A field that nobody knows.
pub(crate) fn unknown<'a>(
    entry: &Entry<'_>,
    known: impl Iterator<Item = &'a str> + Clone,
    parent: Option<&At<'_>>,
) -> Misfit {
    let key: &str = &entry.key;
    let path = match parent {
        Some(parent) => parent.field(key).path(),
        None => At::top(key).path(),
    };
    Misfit {
        path,
        at: entry.at,
        found: shorten(key),
        message: format!("unknown field {:?}", shorten(key)),
        suggestion: nearest(key, known.clone()).map(str::to_owned),
        expected: Some(one_of(known)).filter(|text| !text.is_empty()),
        fatal: false,
    }
}

fn between(least: usize, most: usize, what: &str) -> String {
    match (least, most) {
        (0, most) => format!("at most {most} {what}"),
        (least, usize::MAX) => format!("at least {least} {what}"),
        (least, most) => format!("{least} to {most} {what}"),
    }
}

/// `A, B or C`.
pub(crate) fn one_of<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<_> = names.collect();
    match names.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        Some((last, _)) => (*last).to_owned(),
        None => String::new(),
    }
}

/// The text of a scalar, shortened; nothing for what spans lines.
pub(crate) fn excerpt(node: &Node<'_>) -> String {
    match &node.value {
        Value::Scalar(text, _) => shorten(text),
        _ => String::new(),
    }
}
