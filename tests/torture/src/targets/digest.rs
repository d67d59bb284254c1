//! Digest: what is read is answered, and the answer verified.

use signalbox_base::Wall;
use signalbox_sip::digest::{Answer, Challenge, Credentials, Ha1, NonceIssuer, NonceVerdict, verify};

/// See the module.
pub fn digest(bytes: &[u8]) -> bool {
    let challenge = Challenge::parse(bytes);
    let credentials = Credentials::parse(bytes);
    if let Ok(challenge) = &challenge {
        answer(challenge);
    }
    if let Ok(credentials) = &credentials {
        let ha1 =
            Ha1::from_password(credentials.algorithm, b"user", b"realm", b"a secret that nobody guesses");
        assert!(!verify(credentials, &ha1, b"REGISTER", b""), "nobody guesses it");
        let issuer = NonceIssuer::new([7; 32], 300);
        assert!(
            issuer.judge(&credentials.nonce, &credentials.realm, Wall::from_secs(1)) != NonceVerdict::Fresh
        );
    }
    challenge.is_ok() || credentials.is_ok()
}

fn answer(challenge: &Challenge<'_>) {
    let ha1 = Ha1::from_password(challenge.algorithm, b"user", &challenge.realm, b"secret");
    let answer = Answer {
        username: b"user",
        ha1: &ha1,
        method: b"REGISTER",
        uri: b"sip:h",
        cnonce: "c",
        nonce_count: 1,
        body: b"",
    };
    let Some(written) = answer.write(challenge) else { return };
    let credentials = Credentials::parse(&written).expect("what we write we can read");
    assert_eq!((&credentials.realm, &credentials.nonce), (&challenge.realm, &challenge.nonce));
    assert!(verify(&credentials, &ha1, b"REGISTER", b""), "{}", written.escape_ascii());
    assert!(!verify(&credentials, &ha1, b"INVITE", b""));
}
