//! Keys and tokens of NATS: an operator, an account with JetStream and a user, made for one server.

use nkeys::KeyPair;
use serde_json::{Value, json};

/// What a server in operator mode is told, and what its user holds.
pub(crate) struct Credentials {
    /// Lines for the server's configuration.
    pub(crate) server: String,
    /// The user's `.creds` file.
    pub(crate) user: String,
}

impl Credentials {
    pub(crate) fn make() -> Self {
        let (operator, account, system) =
            (KeyPair::new_operator(), KeyPair::new_account(), KeyPair::new_account());
        let user = KeyPair::new_user();
        let limits = json!({"subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true,
            "conn": -1, "leaf": -1, "mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1});
        let plain = json!({"subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true,
            "conn": -1, "leaf": -1});
        let of_operator = token(&operator, &operator, "operator", json!({}));
        let of_account = token(&account, &operator, "account", json!({"limits": limits}));
        let of_system = token(&system, &operator, "account", json!({"limits": plain}));
        let of_user = token(&user, &account, "user", json!({"subs": -1, "data": -1, "payload": -1}));
        let seed = user.seed().expect("a pair that was made here has its seed");
        let (account, system) = (account.public_key(), system.public_key());
        Self {
            server: format!(
                "operator: {of_operator}\nresolver: MEMORY\nsystem_account: {system}\n\
                 resolver_preload: {{ {account}: {of_account}, {system}: {of_system} }}\n"
            ),
            user: format!(
                "-----BEGIN NATS USER JWT-----\n{of_user}\n------END NATS USER JWT------\n\n\
                 -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
            ),
        }
    }
}

/// A JWT as NATS has them: <https://docs.nats.io/reference/reference-protocols/nats_jwt>.
fn token(of: &KeyPair, by: &KeyPair, kind: &str, claims: Value) -> String {
    let mut nats = claims;
    nats["type"] = kind.into();
    nats["version"] = 2.into();
    let body = json!({"jti": of.public_key(), "iat": 1_700_000_000, "iss": by.public_key(), "name": kind,
        "sub": of.public_key(), "nats": nats});
    let head = json!({"typ": "JWT", "alg": "ed25519-nkey"});
    let signed = format!("{}.{}", base64(head.to_string().as_bytes()), base64(body.to_string().as_bytes()));
    let signature = by.sign(signed.as_bytes()).expect("a pair that was made here can sign");
    format!("{signed}.{}", base64(&signature))
}

/// RFC 4648 §5, without padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let mut three = [0; 3];
        three[..group.len()].copy_from_slice(group);
        let [a, b, c] = three.map(usize::from);
        let digits = [a >> 2, (a & 3) << 4 | b >> 4, (b & 15) << 2 | c >> 6, c & 63];
        text.extend(digits[..=group.len()].iter().map(|&digit| char::from(DIGITS[digit])));
    }
    text
}
