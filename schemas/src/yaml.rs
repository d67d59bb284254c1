//! Writes a JSON value as block-style YAML 1.2, for people to read.
//!
//! Text that YAML could take for something else is written as a JSON string, which is YAML too.

use serde_json::Value;
use std::fmt::Write;

/// The value as a YAML document, with a line break at its end.
pub(crate) fn write(value: &Value) -> String {
    let mut out = String::new();
    block(&mut out, value, 0);
    out
}

fn block(out: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (index, (key, value)) in fields.iter().enumerate() {
                if index > 0 {
                    indent(out, depth);
                }
                out.push_str(&scalar(key));
                out.push(':');
                if is_leaf(value) {
                    out.push(' ');
                } else {
                    out.push('\n');
                    indent(out, depth + 1);
                }
                block(out, value, depth + 1);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    indent(out, depth);
                }
                out.push_str("- ");
                block(out, item, depth + 1);
            }
        }
        Value::String(text) => line(out, &scalar(text)),
        other => line(out, &other.to_string()),
    }
}

fn is_leaf(value: &Value) -> bool {
    match value {
        Value::Object(fields) => fields.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => true,
    }
}

fn line(out: &mut String, text: &str) {
    let _ = writeln!(out, "{text}");
}

fn indent(out: &mut String, depth: usize) {
    out.extend(std::iter::repeat_n("  ", depth));
}

/// Plain where nothing in the text means something to YAML; quoted otherwise.
fn scalar(text: &str) -> String {
    let first = text.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'$');
    let rest = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"$_./-, ;=+()".contains(&b));
    let word = matches!(
        text.to_ascii_lowercase().as_str(),
        "true" | "false" | "null" | "yes" | "no" | "on" | "off" | "y" | "n"
    );
    if first && rest && !word && !text.ends_with(' ') {
        text.to_owned()
    } else {
        Value::from(text).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn nested_values_are_indented_and_doubtful_text_is_quoted() {
        let value = json!({ "a": { "b": [1, { "c": "x", "d": [] }, ["z"]], "e": {} }, "f": "no", "g": "k: v", "h": "" });
        let expected = "\
a:
  b:
    - 1
    - c: x
      d: []
    - - z
  e: {}
f: \"no\"
g: \"k: v\"
h: \"\"
";
        assert_eq!(write(&value), expected);
    }
}
