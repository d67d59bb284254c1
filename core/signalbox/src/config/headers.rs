//! `headers` of a `[[template]]`: what is taken out of, written or added to messages of the peers that name it.

use super::check::Check;
use super::model::File;
use super::route::Many;
use super::template::{Rewrite, Template, Templates};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use signalbox_base::{TenantId, Text};
use signalbox_engine::settings::{
    self as engine, FieldName, FieldValue, HeaderAction, MemberName, NamePattern,
};
use std::sync::Arc;

/// One rule: `remove`, or `set` or `add` with a `value`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HeaderRule {
    /// Takes out the fields of these names; `X-*` is all whose names begin so, but for those that the edge owns.
    #[serde(skip_serializing_if = "Many::is_empty")]
    pub remove: Many<String>,
    /// Sees to it that there is one field of this name, with `value`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub set: Option<String>,
    /// The same where there is none of this name; what is there stays.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub add: Option<String>,
    /// Text; `{tenant}` is the name of the tenant, `{peer}` that of the trunk or backend whose rule it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Which messages it is for. Default: both.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub only: Option<Only>,
}

/// Kinds of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Only {
    /// Requests.
    Requests,
    /// Responses.
    Responses,
}

/// `phones` of a tenant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Phones {
    /// Templates whose `headers` are for messages from and to them.
    pub template: Templates,
}

impl Phones {
    /// Whether nothing is said.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What is wrong with a rule: at which key, and what to do.
struct Fault {
    key: String,
    message: String,
    fix: &'static str,
}

const ONE_OF: &str =
    "write { remove = \"X-*\" }, { set = \"X-Way\", value = \"…\" } or { add = …, value = … }";
const NAMES: &str = "name one that the edge does not need itself, for example \"User-Agent\" or \"X-*\"";
const VALUES: &str = "write text in which only {tenant} and {peer} stand in braces";

impl HeaderRule {
    fn compile(&self) -> Result<engine::HeaderRule, Fault> {
        let named = |key: &str, text: &str| {
            FieldName::parse(text).map_err(|why| Fault::of(key.to_owned(), text, why, NAMES))
        };
        let value = |text: &str| {
            FieldValue::parse(text).map_err(|why| Fault::of("value".to_owned(), text, why, VALUES))
        };
        let action = match (self.remove.as_slice(), &self.set, &self.add, &self.value) {
            (names @ [_, ..], None, None, None) => {
                let listed = matches!(self.remove, Many::List(_));
                let key = |at| if listed { format!("remove[{at}]") } else { "remove".to_owned() };
                let pattern = |(at, text): (usize, &String)| {
                    NamePattern::parse(text).map_err(|why| Fault::of(key(at), text, why, NAMES))
                };
                HeaderAction::Remove(names.iter().enumerate().map(pattern).collect::<Result<_, _>>()?)
            }
            ([], Some(name), None, Some(text)) => HeaderAction::Set(named("set", name)?, value(text)?),
            ([], None, Some(name), Some(text)) => HeaderAction::Add(named("add", name)?, value(text)?),
            _ => {
                let message = "is no rule for header fields".to_owned();
                return Err(Fault { key: String::new(), message, fix: ONE_OF });
            }
        };
        let requests = self.only != Some(Only::Responses);
        Ok(engine::HeaderRule { action, requests, responses: self.only != Some(Only::Requests) })
    }
}

impl Fault {
    fn of(key: String, text: &str, why: &str, fix: &'static str) -> Self {
        Self { key, message: format!("{text:?} {why}"), fix }
    }
}

/// A template named by a peer.
pub(super) struct Use<'f> {
    pub(super) path: String,
    pub(super) name: &'f Option<String>,
    kind: Kind,
}

/// Who names it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    PhonesIn,
    PhonesOut,
    Backend,
    Trunk,
}

/// Every place of a peer where a template may be named.
pub(super) fn uses<'f>(file: &'f File) -> Vec<Use<'f>> {
    let mut found = Vec::new();
    let mut add = |kinds: [Kind; 2], owner: String, templates: &'f Templates| {
        let each = templates.each(&owner);
        found.extend(each.into_iter().zip(kinds).map(|((path, name), kind)| Use { path, name, kind }));
    };
    for (i, tenant) in file.tenant.iter().enumerate() {
        add([Kind::PhonesIn, Kind::PhonesOut], format!("tenant[{i}].phones"), &tenant.phones.template);
        for (j, backend) in tenant.backends.iter().enumerate() {
            add([Kind::Backend; 2], format!("tenant[{i}].backends[{j}]"), &backend.template);
        }
    }
    for (i, trunk) in file.trunk.iter().enumerate() {
        add([Kind::Trunk; 2], format!("trunk[{i}]"), &trunk.template);
    }
    found
}

/// The borders of all peers.
pub(super) fn borders(file: &File) -> engine::Borders {
    let border = |of, templates: &Templates| engine::Border {
        of,
        from: rules(file, templates.inward.as_ref()),
        to: rules(file, templates.outward.as_ref()),
    };
    let mut found = Vec::new();
    for tenant in &file.tenant {
        let Ok(name) = tenant.name.parse::<TenantId>() else { continue };
        found.push(border(engine::BorderOf::Phones(name.clone()), &tenant.phones.template));
        found.extend(tenant.backends.iter().map(|backend| {
            let of = MemberName::Backend(name.clone(), Text::new(&backend.name));
            border(engine::BorderOf::Peer(of), &backend.template)
        }));
    }
    found.extend(file.trunk.iter().map(|trunk| {
        border(engine::BorderOf::Peer(MemberName::Trunk(Text::new(&trunk.name))), &trunk.template)
    }));
    engine::Borders::new(found)
}

fn rules(file: &File, name: Option<&String>) -> Option<Arc<[engine::HeaderRule]>> {
    let template = file.template.iter().find(|template| Some(&template.name) == name)?;
    let rules: Vec<_> = template.headers.iter().filter_map(|rule| rule.compile().ok()).collect();
    (!rules.is_empty()).then(|| rules.into())
}

/// Rules that cannot be, and templates where they have no meaning.
pub(super) fn check(check: &mut Check<'_>, file: &File) {
    for (i, template) in file.template.iter().enumerate() {
        for (j, rule) in template.headers.iter().enumerate() {
            let path = format!("template[{i}].headers[{j}]");
            if let Err(Fault { key, message, fix }) = rule.compile() {
                let path = if key.is_empty() { path } else { format!("{path}.{key}") };
                check.wrong(&path, message, fix);
            }
        }
    }
    let named = |name: &Option<String>| {
        let is = |template: &&Template| Some(&template.name) == name.as_ref();
        file.template.iter().find(is)
    };
    for (i, route) in file.route.iter().enumerate() {
        if let Some(template) = named(&route.template).filter(|template| !template.headers.is_empty()) {
            let message = format!("\"{}\" has header rules, and those are of peers", template.name);
            let fix = "name it in template = { in = …, out = … } of a trunk or backend";
            check.wrong(&format!("route[{i}].template"), message, fix);
        }
    }
    for Use { path, name, kind } in uses(file) {
        if let Some(template) = named(name).filter(|_| kind != Kind::Trunk) {
            misplaced(check, &path, template, kind);
        }
    }
}

/// What a template of a backend or of phones cannot have.
fn misplaced(check: &mut Check<'_>, path: &str, template: &Template, kind: Kind) {
    let name = &template.name;
    if template.called != Rewrite::default() || template.caller != Rewrite::default() {
        let fix = "name it at a trunk or in a route, and one with headers alone here";
        check.wrong(path, format!("\"{name}\" writes numbers, which only trunks and routes do"), fix);
    }
    let rules = template.headers.iter().filter_map(|rule| rule.compile().ok());
    for rule in rules.filter(|_| kind != Kind::Backend) {
        let (HeaderAction::Set(field, value) | HeaderAction::Add(field, value)) = &rule.action else {
            continue;
        };
        if value.names_a_peer() {
            let fix = "write {tenant}, or a text of its own";
            check.wrong(path, format!("\"{name}\" says {{peer}}, and phones have no name"), fix);
        }
        if kind == Kind::PhonesIn && field.is_claim() {
            let message = format!("\"{name}\" writes {}: of a phone the edge says who it is", field.as_str());
            check.wrong(path, message, "write it in template.out of the backend or trunk that gets it");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{GOOD, keys, load_text};
    use super::super::{Effective, Problems};
    use super::*;

    const RULES: &str = r#"
[[template]]
name    = "inward"
headers = [
  { remove = ["X-*", "Warning"] },
  { set = "X-Peer", value = "{peer} of {tenant}", only = "requests" },
]
[[template]]
name    = "outward"
headers = [{ remove = "User-Agent" }, { add = "Subject", value = "none", only = "responses" }]
[[template]]
name   = "numbers"
called = { strip = "9" }
[[route]]
match    = { number = "9" }
template = "numbers"
to       = "backends"
"#;

    /// The good file with rules at its second backend and at its phones.
    fn good() -> String {
        let at_backend = "priority = 2, template = { in = \"inward\", out = \"outward\" } }";
        let phones = "name = \"acme\"\nphones = { template = { out = \"outward\" } }\n";
        GOOD.replace("priority = 2 }", at_backend).replace("name = \"acme\"\n", phones) + RULES
    }

    fn rules_of(text: &str) -> Result<String, Problems> {
        let settings = Effective::new(&load_text(text)?.file).settings(&keys())?;
        Ok(format!("{:?}", settings.rules.borders))
    }

    #[test]
    fn given_rules_of_a_backend_and_of_phones_when_loaded_then_the_engine_has_them_and_nobody_else_has() {
        let borders = rules_of(&good()).unwrap();
        for (part, times) in
            [("Border {", 2), ("Phones(", 1), ("pbx-2", 1), ("from: None", 1), ("Set(", 1), ("Add(", 2)]
        {
            assert_eq!(borders.matches(part).count(), times, "{part}: {borders}");
        }
        assert_eq!(rules_of(GOOD).unwrap(), format!("{:?}", engine::Borders::default()));
    }

    #[test]
    fn given_a_mistake_in_header_rules_then_it_names_its_place_and_what_to_do() {
        let good = good();
        for (from, to, path, words) in [
            ("\"Warning\"", "\"v\"", "template[0].headers[0].remove[1]", "\"v\" is the edge's own"),
            ("\"X-Peer\"", "\"Contact\"", "template[0].headers[1].set", "\"Contact\" is the edge's own"),
            ("\"Subject\"", "\"Sub ject\"", "template[1].headers[1].add", "is no name"),
            ("{peer} of", "{caller} of", "template[0].headers[1].value", "neither {tenant} nor {peer}"),
            ("{peer} of", "a\\r\\nVia: b", "template[0].headers[1].value", "control character"),
            ("set = \"X-Peer\", ", "", "template[0].headers[1]", "no rule"),
            ("value = \"none\", ", "", "template[1].headers[1]", "no rule"),
            ("add = \"Subject\"", "add = \"Subject\", remove = \"X\"", "template[1].headers[1]", "no rule"),
            ("\"responses\"", "\"answers\"", "template[1].headers[1].only", "unknown variant"),
            ("in = \"inward\"", "in = \"upward\"", "tenant[0].backends[1].template.in", "no template"),
            ("in = \"inward\"", "in = \"numbers\"", "tenant[0].backends[1].template.in", "writes numbers"),
            ("template = \"numbers\"", "template = \"outward\"", "route[0].template", "those are of peers"),
            (
                "{ out = \"outward\" } }\n",
                "{ out = \"inward\" } }\n",
                "tenant[0].phones.template.out",
                "have no name",
            ),
        ] {
            assert!(good.contains(from), "{from}");
            let problems = load_text(&good.replacen(from, to, 1)).expect_err(to);
            let found = problems.0.iter().find(|problem| problem.path == path);
            let found = found.unwrap_or_else(|| panic!("{to}: {problems}"));
            assert!(found.message.contains(words) && !found.fix.is_empty(), "{to}: {found}");
            assert!(found.place.contains(".toml:") && found.excerpt.is_some(), "{to}: {found}");
        }
        let claim = good.replace("{ out = \"outward\" } }\n", "{ in = \"outward\" } }\n");
        let claim = claim.replace("add = \"Subject\"", "add = \"P-Asserted-Identity\"");
        let problems = load_text(&claim).expect_err("a phone's identity");
        assert!(problems.0[0].path == "tenant[0].phones.template.in", "{problems}");
    }
}
