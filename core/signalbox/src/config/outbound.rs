//! `register` of a trunk or backend: the edge registers there itself.

use super::check::Check;
use super::model::File;
use super::secret::{self, Told};
use super::span::Problem;
use super::value::{Address, Span, is_host_name};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use signalbox_base::{Secret, Text};
use signalbox_engine::settings::OutboundSettings;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// A file of passwords larger than this is something else.
const PASSWORD_BYTES_MAX: u64 = 1024;

/// `register`
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Register {
    /// The account: the user part of the address that is registered, and the user of the credentials.
    pub user: String,
    /// File with the password, that nobody else may read. Beside this file, unless it is an absolute path.
    pub password_file: PathBuf,
    /// The domain that is registered at. Default: the host of `address`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// The user of the credentials, where it is another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth_user: Option<String>,
    /// The realm that the credentials are for; no other gets them. Default: the domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub realm: Option<String>,
    /// How long it is asked for.
    #[serde(default = "an_hour")]
    pub expires: Span,
    /// The user part of Contact, where the provider wants a certain one. Default: a token, by which calls find their trunk
    /// from whatever address they come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contact_user: Option<String>,
}

fn an_hour() -> Span {
    Span(Duration::from_secs(3600))
}

impl Register {
    fn domain<'a>(&'a self, address: &'a Address) -> &'a str {
        self.domain.as_deref().unwrap_or(&address.host)
    }
}

/// Every `register` with its path and the address that it is at.
fn all(file: &File) -> impl Iterator<Item = (String, &Register, &Address)> {
    let backends = file.tenant.iter().enumerate().flat_map(|(i, tenant)| {
        tenant.backends.iter().enumerate().filter_map(move |(j, b)| {
            Some((format!("tenant[{i}].backends[{j}].register"), b.register.as_ref()?, &b.address))
        })
    });
    let trunks = file.trunk.iter().enumerate();
    trunks
        .filter_map(|(i, t)| Some((format!("trunk[{i}].register"), t.register.as_ref()?, &t.address)))
        .chain(backends)
}

/// Files of passwords are named as they stand beside the configuration.
pub(super) fn anchor(file: &mut File, beside: &Path) {
    let backends = file.tenant.iter_mut().flat_map(|tenant| &mut tenant.backends);
    let backends = backends.filter_map(|backend| backend.register.as_mut());
    for register in file.trunk.iter_mut().filter_map(|trunk| trunk.register.as_mut()).chain(backends) {
        register.password_file = beside.join(&register.password_file);
    }
}

/// What the engine is told of it.
///
/// # Errors
/// When the password cannot be read any more.
pub(super) fn settings(register: &Register, address: &Address) -> Result<Arc<OutboundSettings>, Problem> {
    let path = &register.password_file;
    let secret = read(path).map_err(|told| Problem::of_file(path, "register.password_file", told))?;
    let domain = register.domain(address);
    let or = |named: &Option<String>, other: &str| Text::new(named.as_deref().unwrap_or(other));
    Ok(Arc::new(OutboundSettings {
        aor: Text::from(format!("{}@{domain}", register.user)),
        user: or(&register.auth_user, &register.user),
        realm: or(&register.realm, domain),
        secret,
        expires_secs: u32::try_from(register.expires.0.as_secs()).unwrap_or(u32::MAX),
        contact: register.contact_user.as_deref().map(Text::new),
    }))
}

fn read(path: &Path) -> Result<Secret, Told> {
    let file = secret::File { path, bytes_max: PASSWORD_BYTES_MAX, larger: "are no password", open: "" };
    let text = file.read()?;
    match text.trim_end_matches(['\r', '\n']) {
        "" => Err(file.told("is empty")),
        password => Ok(Secret::new(password.as_bytes().to_vec())),
    }
}

/// What is wrong with it.
pub(super) fn check(check: &mut Check<'_>, file: &File) {
    for (path, register, address) in all(file) {
        let mut wrong = |key: &str, message: String, fix: &str| {
            check.wrong(&format!("{path}.{key}"), message, fix);
        };
        let is_user = |text: &str| {
            !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic() && !b"<>@\"\\;?:".contains(&b))
        };
        if !is_user(&register.user) {
            wrong(
                "user",
                format!("\"{}\" is no user part of an address", register.user),
                "write it as the provider names the account",
            );
        }
        if register.contact_user.as_ref().is_some_and(|user| !is_user(user)) {
            wrong(
                "contact_user",
                "is no user part of an address".into(),
                "write for example \"442079460000\"",
            );
        }
        let domain = register.domain(address);
        if !is_host_name(domain) && domain.parse::<IpAddr>().is_err() {
            wrong("domain", format!("\"{domain}\" is no domain"), "write it as the provider names it");
        }
        if !(60..=86_400).contains(&register.expires.0.as_secs()) {
            wrong(
                "expires",
                "is shorter than a minute or longer than a day".into(),
                "write for example \"1h\"",
            );
        }
        if let Err((message, fix)) = read(&register.password_file) {
            wrong("password_file", message, &fix);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{GOOD, keys};
    use super::super::{Effective, load};
    use std::os::unix::fs::PermissionsExt;

    /// With a trunk, and a file of its password with these rights.
    fn loaded(register: &str, mode: u32) -> Result<Effective, String> {
        let dir = tempfile::tempdir().unwrap();
        let (file, password) = (dir.path().join("signalbox.toml"), dir.path().join("carrier.password"));
        std::fs::write(&password, "open sesame\n").unwrap();
        std::fs::set_permissions(&password, std::fs::Permissions::from_mode(mode)).unwrap();
        let outside = GOOD.replace("serves = [\"endpoints\"]", "serves = [\"endpoints\", \"trunks\"]");
        let text = format!(
            "{outside}\n[[trunk]]\nname = \"carrier\"\naddress = \"udp:sip.provider.test\"\n{register}\n"
        );
        std::fs::write(&file, text).unwrap();
        let loaded = load(&file, std::iter::empty()).map_err(|problems| problems.0[0].to_string())?;
        let effective = Effective::new(&loaded.file);
        let settings = effective.settings(&keys()).map_err(|problems| problems.0[0].to_string())?;
        let account = settings.trunks[0].peer.register.as_ref().expect("an account");
        assert_eq!((&*account.aor, &*account.realm), ("4420@sip.provider.test", "sip.provider.test"));
        assert_eq!((account.secret.expose(), account.expires_secs), (&b"open sesame"[..], 600));
        Ok(effective)
    }

    #[test]
    fn given_an_account_at_a_trunk_then_the_password_is_read_and_shown_nowhere() {
        let account =
            "register = { user = \"4420\", password_file = \"carrier.password\", expires = \"10m\" }";
        let effective = loaded(account, 0o600).unwrap();
        let shown = super::super::effective_json(&effective.file).to_string();
        assert!(shown.contains("carrier.password") && !shown.contains("sesame"), "{shown}");
    }

    #[test]
    fn given_a_mistake_in_an_account_then_it_names_its_place_and_what_to_do() {
        let account = |part: &str| format!("register = {{ {part}, password_file = \"carrier.password\" }}");
        for (register, mode, place) in [
            (account("user = \"a b\""), 0o600, "trunk[0].register.user"),
            (account("user = \"4420\", expires = \"5s\""), 0o600, "trunk[0].register.expires"),
            (account("user = \"4420\", domain = \"a_b\""), 0o600, "trunk[0].register.domain"),
            (account("user = \"4420\""), 0o604, "trunk[0].register.password_file"),
            (
                "register = { user = \"4420\", password_file = \"nothing\" }".to_owned(),
                0o600,
                "password_file",
            ),
        ] {
            let told = loaded(&register, mode).unwrap_err();
            assert!(told.contains(place), "{place}: {told}");
        }
    }
}
