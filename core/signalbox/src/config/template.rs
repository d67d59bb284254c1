//! `[[template]]`: how numbers are written for whoever gets a call, and header fields of what peers send and get.

use super::check::Check;
use super::headers::HeaderRule;
use super::model::File;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use signalbox_base::Text;
use signalbox_engine::settings as engine;
use std::sync::Arc;

/// `[[template]]`
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Template {
    /// What routes and trunks call it.
    pub name: String,
    /// The number that is called: in the Request-URI, and in To where that names the same.
    #[serde(default)]
    pub called: Rewrite,
    /// Who calls: in From and P-Asserted-Identity.
    #[serde(default)]
    pub caller: Rewrite,
    /// Header fields of all messages, in the order of these rules. At trunks, backends and phones, not in routes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<HeaderRule>,
}

/// `template` of a trunk, of a backend, or of `phones`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Templates {
    /// Of what comes from there.
    #[serde(rename = "in", skip_serializing_if = "Option::is_none")]
    pub inward: Option<String>,
    /// Of what goes there.
    #[serde(rename = "out", skip_serializing_if = "Option::is_none")]
    pub outward: Option<String>,
}

impl Templates {
    /// Whether none is named.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Both, with their paths below that of their owner.
    pub(super) fn each(&self, owner: &str) -> [(String, &Option<String>); 2] {
        [(format!("{owner}.template.in"), &self.inward), (format!("{owner}.template.out"), &self.outward)]
    }
}

/// How a number is written anew: stripped, brought into a form, prefixed.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Rewrite {
    /// Taken off, where the number begins with it; else the number stays as it is.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub strip: String,
    /// The form of what is left, where it has an E.164 form.
    pub form: Form,
    /// Put before it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub prefix: String,
}

/// Forms of a number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// As it is.
    #[default]
    Same,
    /// `+442079460000`
    E164,
    /// `442079460000`
    Digits,
    /// `02079460000` where it is of the tenant's `country`, else `00` and the digits.
    National,
}

impl Rewrite {
    fn settings(&self) -> engine::Rewrite {
        engine::Rewrite {
            strip: Text::new(&self.strip),
            form: match self.form {
                Form::Same => engine::Form::Same,
                Form::E164 => engine::Form::E164,
                Form::Digits => engine::Form::Digits,
                Form::National => engine::Form::National,
            },
            prefix: Text::new(&self.prefix),
        }
    }
}

/// The template of this name.
pub(super) fn named(file: &File, name: Option<&String>) -> Option<Arc<engine::Template>> {
    let template = file.template.iter().find(|template| Some(&template.name) == name)?;
    let (called, caller) = (template.called.settings(), template.caller.settings());
    Some(Arc::new(engine::Template { called, caller }))
}

/// Names that nothing bears, and two of one name.
pub(super) fn check(check: &mut Check<'_>, file: &File) {
    for (i, template) in file.template.iter().enumerate() {
        let path = format!("template[{i}].name");
        check.name(&path, &template.name);
        if file.template[..i].iter().any(|other| other.name == template.name) {
            let message = format!("there are two templates \"{}\"", template.name);
            check.wrong(&path, message, "give each its own name");
        }
    }
    let of_routes =
        file.route.iter().enumerate().map(|(i, route)| (format!("route[{i}].template"), &route.template));
    for (path, name) in of_routes.chain(super::headers::uses(file).into_iter().map(|at| (at.path, at.name))) {
        if let Some(name) = name
            && !file.template.iter().any(|template| template.name == *name)
        {
            let known: Vec<_> = file.template.iter().map(|template| template.name.as_str()).collect();
            let fix = format!("known: {}", if known.is_empty() { "none".into() } else { known.join(", ") });
            check.wrong(&path, format!("there is no template \"{name}\""), fix);
        }
    }
}
