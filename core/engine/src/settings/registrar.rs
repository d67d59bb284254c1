//! Domains whose users the edge itself knows: who they are, and what they are asked for.

use foldhash::HashMap;
use signalbox_base::Text;
use signalbox_sip::HeaderName;
use signalbox_sip::digest::{Algorithm, Ha1};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// What the edge does itself for the phones of a domain. The default: nothing, a backend does.
#[derive(Clone, Debug, Default)]
pub struct DomainPolicy {
    /// Set where the edge answers REGISTER itself, and no backend is asked.
    pub registrar: Option<RegistrarSettings>,
    /// Whom it can tell by their credentials.
    pub users: Option<Arc<Users>>,
    /// Which requests of phones need credentials of `users`; REGISTER always does where the edge is the registrar.
    pub challenged: Challenged,
    /// Towards a backend registrations are asked for so long, and a phone's refreshes in between are answered here.
    pub refresh_upstream: Option<Duration>,
}

/// The edge as a registrar (RFC 3261 §10.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegistrarSettings {
    /// Who asks for less gets 423, seconds; less than an hour (RFC 3261 §10.3 step 7).
    pub min_expires_secs: u32,
    /// Who asks for more gets this, seconds.
    pub max_expires_secs: u32,
    /// Contacts of one AoR.
    pub contacts_max: u16,
}

/// Which requests outside of dialogs are challenged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Challenged {
    /// None.
    #[default]
    None,
    /// All.
    All,
    /// Those of these methods.
    Methods(Vec<Text>),
}

impl Challenged {
    /// Whether a request of this method is.
    #[must_use]
    pub fn contains(&self, method: &str) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::Methods(methods) => methods.iter().any(|name| **name == *method),
        }
    }
}

/// Which of the two ways to ask for credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asking {
    /// As a registrar: 401, WWW-Authenticate.
    Registrar,
    /// As a proxy: 407, Proxy-Authenticate.
    Proxy,
}

impl Asking {
    /// The status that asks.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::Registrar => 401,
            Self::Proxy => 407,
        }
    }

    /// The header that asks.
    #[must_use]
    pub const fn challenge(self) -> HeaderName {
        match self {
            Self::Registrar => HeaderName::WwwAuthenticate,
            Self::Proxy => HeaderName::ProxyAuthenticate,
        }
    }

    /// The header that answers.
    #[must_use]
    pub const fn credentials(self) -> HeaderName {
        match self {
            Self::Registrar => HeaderName::Authorization,
            Self::Proxy => HeaderName::ProxyAuthorization,
        }
    }
}

/// What is kept of one user: HA1 of its password, by hash.
#[derive(Clone, Debug, Default)]
struct Secrets {
    md5: Option<Ha1>,
    sha256: Option<Ha1>,
}

/// The users of one realm, as a file of lines `user:realm:HA1` names them: those of `htdigest`, whose HA1 has 32 hexadecimal
/// digits (MD5), and the same with the 64 of SHA-256 (RFC 8760). A user may have a line of each.
#[derive(Debug)]
pub struct Users {
    realm: Text,
    each: HashMap<Text, Secrets>,
    /// What names that are not there are judged by, so that they take as long.
    nobody: Secrets,
}

/// A line of the file that says nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadUserLine {
    /// Its number, from 1.
    pub line: usize,
    /// What is wrong with it; never what stands there.
    pub what: &'static str,
}

impl fmt::Display for BadUserLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

impl Users {
    /// Reads the file of a realm. Empty lines and those that begin with `#` are skipped.
    ///
    /// # Errors
    /// Every line that is wrong.
    pub fn read(text: &str, realm: &str) -> Result<Self, Vec<BadUserLine>> {
        let mut each: HashMap<Text, Secrets> = HashMap::default();
        let mut bad = Vec::new();
        for (line, number) in text.lines().zip(1..) {
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            match read_line(line, realm) {
                Ok((user, ha1)) => {
                    let secrets = each.entry(Text::new(user)).or_default();
                    let place = if ha1.fits(Algorithm::Md5) { &mut secrets.md5 } else { &mut secrets.sha256 };
                    if place.replace(ha1).is_some() {
                        bad.push(BadUserLine { line: number, what: "this user has such a line already" });
                    }
                }
                Err(what) => bad.push(BadUserLine { line: number, what }),
            }
        }
        if !bad.is_empty() {
            return Err(bad);
        }
        let zeros = |digits: usize| Ha1::from_hex(&"0".repeat(digits));
        Ok(Self {
            realm: Text::new(realm),
            each,
            nobody: Secrets { md5: zeros(MD5_DIGITS), sha256: zeros(SHA256_DIGITS) },
        })
    }

    /// The realm: the domain's canonical name.
    #[must_use]
    pub fn realm(&self) -> &str {
        &self.realm
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.each.len()
    }

    /// Whether there is nobody.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.each.is_empty()
    }

    /// Whether the file names this user, alone or with the realm as `user@domain`.
    #[must_use]
    pub fn knows(&self, user: &[u8]) -> bool {
        let Ok(user) = std::str::from_utf8(user) else { return false };
        self.each.contains_key(user) || self.each.contains_key(&*format!("{user}@{}", self.realm))
    }

    /// The user's HA1 of an algorithm. Of a name that is not there one that no password has, and `false`.
    pub(crate) fn secret(&self, name: &[u8], algorithm: Algorithm) -> (Option<&Ha1>, bool) {
        let known = std::str::from_utf8(name).ok().and_then(|name| self.each.get(name));
        match known.and_then(|secrets| fitting(secrets, algorithm)) {
            Some(ha1) => (Some(ha1), true),
            None => (fitting(&self.nobody, algorithm), false),
        }
    }

    /// What a user is offered, the strongest first (RFC 8760 §2.4): what its lines are of; for others all.
    pub(crate) fn offered(&self, user: &str) -> impl Iterator<Item = Algorithm> {
        let known = self.each.get(user).or_else(|| self.each.get(&*format!("{user}@{}", self.realm)));
        let secrets = known.unwrap_or(&self.nobody);
        let each = [(Algorithm::Sha256, secrets.sha256.is_some()), (Algorithm::Md5, secrets.md5.is_some())];
        each.into_iter().filter_map(|(algorithm, there)| there.then_some(algorithm))
    }
}

const MD5_DIGITS: usize = 32;
const SHA256_DIGITS: usize = 64;

fn fitting(secrets: &Secrets, algorithm: Algorithm) -> Option<&Ha1> {
    [&secrets.md5, &secrets.sha256].into_iter().flatten().find(|ha1| ha1.fits(algorithm))
}

fn read_line<'l>(line: &'l str, realm: &str) -> Result<(&'l str, Ha1), &'static str> {
    let mut parts = line.trim_end().splitn(3, ':');
    let (Some(user), Some(of), Some(ha1)) = (parts.next(), parts.next(), parts.next()) else {
        return Err("is not user:realm:HA1");
    };
    if user.is_empty() || user.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err("names no user");
    }
    if !of.eq_ignore_ascii_case(realm) {
        return Err("is of another realm than the domain's name");
    }
    let ha1 = Ha1::from_hex(ha1).ok_or("has no HA1 of 32 (MD5) or 64 (SHA-256) hexadecimal digits")?;
    Ok((user, ha1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(digits: usize) -> String {
        "a".repeat(digits)
    }

    #[test]
    fn a_user_has_what_its_lines_say_and_strangers_are_offered_all() {
        let text = format!(
            "# phones\n\n401:a.test:{}\n401:a.test:{}\n402:A.test:{}\n403@a.test:a.test:{}\n",
            hex(32),
            hex(64),
            hex(32),
            hex(64)
        );
        let users = Users::read(&text, "a.test").unwrap();
        assert_eq!((users.len(), users.realm()), (3, "a.test"));
        let offered = |user| users.offered(user).collect::<Vec<_>>();
        let both = [Algorithm::Sha256, Algorithm::Md5];
        assert_eq!(offered("401"), both);
        assert_eq!(offered("402"), [Algorithm::Md5]);
        assert_eq!(offered("403"), [Algorithm::Sha256]);
        assert_eq!(offered("nobody"), both);
        assert!(users.knows(b"403") && users.knows(b"402") && !users.knows(b"404"));
        assert!(users.secret(b"401", Algorithm::Sha256).1);
        assert!(!users.secret(b"402", Algorithm::Sha256).1 && !users.secret(b"404", Algorithm::Md5).1);
        assert!(users.secret(b"404", Algorithm::Md5).0.is_some(), "a stranger takes as long");
    }

    #[test]
    fn every_wrong_line_is_named_and_none_is_shown() {
        let text = format!(
            "401:a.test:{0}\n401:a.test:{0}\nsecret\n402:b.test:{0}\n403:a.test:hunter2\n:a.test:{0}\n",
            hex(32)
        );
        let bad = Users::read(&text, "a.test").unwrap_err();
        assert_eq!(bad.iter().map(|bad| bad.line).collect::<Vec<_>>(), [2, 3, 4, 5, 6]);
        let told: String = bad.iter().map(ToString::to_string).collect();
        assert!(!told.contains("hunter2") && !told.contains("secret"), "{told}");
    }

    #[test]
    fn methods_are_challenged_as_they_are_named() {
        let some = Challenged::Methods(vec![Text::new("INVITE")]);
        assert!(some.contains("INVITE") && !some.contains("MESSAGE"));
        assert!(Challenged::All.contains("MESSAGE") && !Challenged::None.contains("INVITE"));
    }
}
