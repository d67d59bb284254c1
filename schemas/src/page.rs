//! The catalogue for people: every event with its fields, their units, what is personal, and an example; generated from
//! the types, as `schemas/CATALOGUE.md` and as the page that the admin port serves.

use crate::catalogue::Kind;
use crate::schema::{data_schema, envelope_schema, path};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write;

/// The page as Markdown; `schemas/CATALOGUE.md` is exactly this.
#[must_use]
pub fn markdown() -> String {
    let mut out = String::from(MARKDOWN_HEAD);
    for (domain, events) in domains() {
        line(&mut out, format_args!("- **{domain}**: {}", links(&events)));
    }
    out.push_str("\n## Envelope\n\nEvery event is a CloudEvent 1.0.2 with these attributes.\n\n");
    markdown_fields(&mut out, &fields(&envelope_schema()));
    for (domain, events) in domains() {
        line(&mut out, format_args!("\n## {domain}"));
        for kind in events {
            markdown_event(&mut out, kind);
        }
    }
    out.push_str("\n## Types\n");
    for (name, schema) in types() {
        line(&mut out, format_args!("\n### {name}\n\n{}\n", about(&schema)));
        match words(&schema) {
            Some(words) => words.iter().for_each(|(word, meaning)| {
                line(&mut out, format_args!("- `{word}`: {meaning}"));
            }),
            None => markdown_fields(&mut out, &fields(&schema)),
        }
    }
    out
}

/// The page as HTML, in one piece: nothing is loaded from elsewhere.
#[must_use]
pub fn html() -> String {
    let mut out = String::from(HTML_HEAD);
    for (domain, events) in domains() {
        let _ = write!(out, "<p><b>{domain}</b>");
        for kind in events {
            let _ = write!(out, " <a href=\"#{0}\">{0}</a>", kind.short());
        }
        out.push_str("</p>");
    }
    out.push_str("</nav><h2>Envelope</h2><p>Every event is a CloudEvent 1.0.2 with these attributes.</p>");
    html_fields(&mut out, &fields(&envelope_schema()));
    for (domain, events) in domains() {
        let _ = write!(out, "<h2>{domain}</h2>");
        for kind in events {
            html_event(&mut out, kind);
        }
    }
    out.push_str("<h2>Types</h2>");
    for (name, schema) in types() {
        let _ = write!(out, "<h3 id=\"{name}\">{name}</h3><p>{}</p>", escaped(&about(&schema)));
        match words(&schema) {
            Some(words) => {
                out.push_str("<dl>");
                for (word, meaning) in words {
                    let _ = write!(out, "<dt><code>{word}</code></dt><dd>{}</dd>", escaped(&meaning));
                }
                out.push_str("</dl>");
            }
            None => html_fields(&mut out, &fields(&schema)),
        }
    }
    out.push_str("</body></html>\n");
    out
}

const MARKDOWN_HEAD: &str = "# Signalbox events\n\n\
    Generated from the types (`schemas/src`): change those, then `SIGNALBOX_BLESS=1 cargo test -p signalbox-schemas`.\n\n\
    Fields end in their unit: `_ms` milliseconds, `_at` a moment (RFC 3339, UTC). **●** marks a field that is always there, \
    **P** personal data. Within a version only optional fields and words are added: read what you know and ignore the \
    rest. Tell duplicates by `source` and `sequence`. Subscribers in several languages: `compose/examples`.\n\n";

const HTML_HEAD: &str = "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
    <meta name=\"viewport\" content=\"width=device-width\"><title>Signalbox events</title><style>\
    :root{color-scheme:light dark}body{font:15px/1.5 system-ui,sans-serif;max-width:64rem;margin:2rem auto;padding:0 1rem}\
    table{border-collapse:collapse;width:100%}th,td{text-align:left;vertical-align:top;padding:.2rem .6rem .2rem 0;\
    border-bottom:1px solid #8884}pre{overflow:auto;padding:.6rem;background:#8881}h2{margin-top:2.5rem}\
    nav a{margin-right:.4rem}</style></head><body><h1>Signalbox events</h1>\
    <p>Fields end in their unit: <code>_ms</code> milliseconds, <code>_at</code> a moment (RFC 3339, UTC). \
    &#9679; marks a field that is always there, <b>P</b> personal data. Within a version only optional fields and words \
    are added: read what you know and ignore the rest. Tell duplicates by <code>source</code> and <code>sequence</code>. \
    Machine-readable: <a href=\"/schemas\">/schemas</a>, <a href=\"/schemas/asyncapi.yaml\">AsyncAPI</a>. \
    Live: <code>curl -N /events</code>.</p><nav>";

/// A row of a table of fields.
struct Field {
    name: String,
    kind: String,
    /// The type that `kind` names, where that has a section of its own.
    link: Option<String>,
    unit: &'static str,
    always: bool,
    personal: bool,
    about: String,
}

fn domains() -> Vec<(&'static str, Vec<Kind>)> {
    let mut domains: Vec<(&str, Vec<Kind>)> = Vec::new();
    for kind in Kind::ALL {
        match domains.last_mut().filter(|(domain, _)| *domain == kind.domain()) {
            Some((_, events)) => events.push(*kind),
            None => domains.push((kind.domain(), vec![*kind])),
        }
    }
    domains
}

/// Every type that a field of some event refers to, by its name.
fn types() -> BTreeMap<String, Value> {
    let schemas = Kind::ALL.iter().map(|kind| data_schema(*kind)).chain([envelope_schema()]);
    let definitions = schemas.filter_map(|schema| schema.get("$defs")?.as_object().cloned());
    definitions.flatten().collect()
}

/// What must be there comes first, the rest by name.
fn fields(schema: &Value) -> Vec<Field> {
    let required =
        |name: &str| schema["required"].as_array().is_some_and(|all| all.iter().any(|r| r == name));
    let named = schema["properties"].as_object().into_iter().flatten();
    let mut fields: Vec<Field> = named
        .map(|(name, property)| {
            let (kind, link) = kind_of(property);
            Field {
                name: name.clone(),
                kind,
                link,
                unit: unit(name, property),
                always: required(name),
                personal: property["x-personal-data"] == true,
                about: about(property),
            }
        })
        .collect();
    fields.sort_by(|a, b| (!a.always, &a.name).cmp(&(!b.always, &b.name)));
    fields
}

/// A type in words, and the section it leads to.
fn kind_of(schema: &Value) -> (String, Option<String>) {
    if let Some(name) = schema["$ref"].as_str().and_then(|r| r.rsplit('/').next()) {
        return (name.to_owned(), Some(name.to_owned()));
    }
    let kind = match (schema["type"].as_str(), schema["format"].as_str()) {
        (Some("array"), _) => {
            let (of, link) = kind_of(&schema["items"]);
            return (format!("list of {of}"), link);
        }
        (Some("string"), Some("date-time")) => "time",
        (Some("string"), _) => "text",
        (Some("integer"), _) => "integer",
        (Some("number"), _) => "number",
        (Some("boolean"), _) => "yes or no",
        (Some("object"), _) => "object",
        _ if schema["anyOf"].is_array() => "address",
        _ => "any",
    };
    (kind.to_owned(), None)
}

fn unit(name: &str, schema: &Value) -> &'static str {
    let ends = |end: &str| name.ends_with(end);
    match schema["type"].as_str() {
        Some("integer" | "number") if ends("_ms") => "ms",
        Some("integer" | "number") if ends("_us") => "µs",
        Some("integer" | "number") if ends("_seconds") || ends("_secs") => "s",
        Some("integer" | "number") if ends("bytes") => "bytes",
        Some("string") if schema["format"] == "date-time" => "UTC",
        _ => "",
    }
}

/// The description on one line, without the meanings of words, which have lists of their own.
fn about(schema: &Value) -> String {
    if words(schema).is_some() {
        return String::new();
    }
    schema["description"].as_str().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The words of an enumeration with their meanings: its description has a line for each, `` `word`: meaning ``.
fn words(schema: &Value) -> Option<Vec<(String, String)>> {
    let words = schema["enum"].as_array()?;
    let description = schema["description"].as_str().unwrap_or_default();
    let meaning = |word: &str| {
        let lead = format!("`{word}`: ");
        description.lines().find_map(|line| line.strip_prefix(&lead)).unwrap_or_default().to_owned()
    };
    Some(words.iter().filter_map(Value::as_str).map(|word| (word.to_owned(), meaning(word))).collect())
}

fn severity(kind: Kind) -> String {
    kind.severity().map(|number| format!(", severity {number}")).unwrap_or_default()
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    let _ = writeln!(out, "{text}");
}

/// GitHub's anchor of a heading.
fn anchor(heading: &str) -> String {
    let kept = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    heading.to_lowercase().chars().filter(|c| kept(*c)).collect()
}

fn links(kinds: &[Kind]) -> String {
    let link = |kind: &Kind| format!("[{}](#{})", kind.short(), anchor(kind.short()));
    kinds.iter().map(link).collect::<Vec<_>>().join(", ")
}

fn markdown_event(out: &mut String, kind: Kind) {
    let schema = data_schema(kind);
    line(out, format_args!("\n### {}\n\n{}\n", kind.short(), kind.description()));
    let (name, aggregate, place) = (kind.type_name(), kind.aggregate().as_str(), path(kind));
    line(out, format_args!("`{name}`, about: {aggregate}{}. [Schema](json/{place}).\n", severity(kind)));
    markdown_fields(out, &fields(&schema));
    line(
        out,
        format_args!("\n<details><summary>Example</summary>\n\n```json\n{}\n```\n</details>", example(kind)),
    );
}

fn markdown_fields(out: &mut String, fields: &[Field]) {
    out.push_str("| field | | type | unit | meaning |\n|---|---|---|---|---|\n");
    for field in fields {
        let kind = match &field.link {
            Some(link) => field.kind.replace(link.as_str(), &format!("[{link}](#{})", anchor(link))),
            None => field.kind.clone(),
        };
        let (name, unit, about) = (&field.name, field.unit, field.about.replace('|', "\\|"));
        line(out, format_args!("| `{name}` | {} | {kind} | {unit} | {about} |", marks(field)));
    }
}

fn marks(field: &Field) -> String {
    let marks = [(field.always, "●"), (field.personal, "P")];
    marks.iter().filter(|(is, _)| *is).map(|(_, mark)| *mark).collect::<Vec<_>>().join(" ")
}

fn html_event(out: &mut String, kind: Kind) {
    let (short, about, aggregate) = (kind.short(), escaped(kind.description()), kind.aggregate().as_str());
    let (name, place) = (kind.type_name(), path(kind));
    let _ = write!(
        out,
        "<h3 id=\"{short}\">{short}</h3><p>{about}</p><p><code>{name}</code>, about: {aggregate}{}. \
         <a href=\"/schemas/{place}\">Schema</a>.</p>",
        severity(kind)
    );
    html_fields(out, &fields(&data_schema(kind)));
    let _ = write!(out, "<details><summary>Example</summary><pre>{}</pre></details>", escaped(example(kind)));
}

fn html_fields(out: &mut String, fields: &[Field]) {
    out.push_str("<table><tr><th>field<th><th>type<th>unit<th>meaning</tr>");
    for field in fields {
        let kind = match &field.link {
            Some(link) => field.kind.replace(link.as_str(), &format!("<a href=\"#{link}\">{link}</a>")),
            None => field.kind.clone(),
        };
        let (name, unit, about) = (&field.name, field.unit, escaped(&field.about));
        let _ = write!(
            out,
            "<tr><td><code>{name}</code><td>{}<td>{kind}<td>{unit}<td>{about}</tr>",
            marks(field)
        );
    }
    out.push_str("</table>");
}

fn example(kind: Kind) -> &'static str {
    kind.example().trim_end()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_field_says_its_type_unit_and_whose_data_it_is() {
        let schema = json!({ "required": ["b_ms"], "properties": {
            "a_at": { "type": "string", "format": "date-time", "description": "When." },
            "b_ms": { "type": "integer", "description": "How\nlong." },
            "c": { "type": "array", "items": { "$ref": "#/$defs/Word" }, "x-personal-data": true },
        }});
        let told: Vec<_> = fields(&schema)
            .into_iter()
            .map(|f| (f.name.clone(), f.kind.clone(), f.unit, marks(&f), f.about))
            .collect();
        let row = |name: &str, kind: &str, unit, marks: &str, about: &str| {
            (name.to_owned(), kind.to_owned(), unit, marks.to_owned(), about.to_owned())
        };
        let expected = [
            row("b_ms", "integer", "ms", "●", "How long."),
            row("a_at", "time", "UTC", "", "When."),
            row("c", "list of Word", "", "P", ""),
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn the_words_of_an_enumeration_have_their_meanings() {
        let schema =
            json!({ "enum": ["up", "down"], "description": "`up`: It works.\n`down`: It does not." });
        let pair = |word: &str, meaning: &str| (word.to_owned(), meaning.to_owned());
        assert_eq!(words(&schema), Some(vec![pair("up", "It works."), pair("down", "It does not.")]));
    }
}
