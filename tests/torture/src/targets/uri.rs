//! URIs: read, compared, written.

use signalbox_sip::Uri;
use signalbox_sip::uri::{decode, equivalent, write_escaped_user};

/// See the module. Two URIs, with a line between, are also compared.
pub fn uri(bytes: &[u8]) -> bool {
    let mut parts = bytes.splitn(2, |b| *b == b'\n');
    let first = parts.next().map(Uri::parse);
    let second = parts.next().map(Uri::parse);
    let Some(Ok(first)) = first else { return false };
    check(&first);
    if let Some(Ok(second)) = second {
        check(&second);
        assert_eq!(equivalent(&first, &second), equivalent(&second, &first), "to be equal is mutual");
    }
    true
}

fn check(uri: &Uri<'_>) {
    let _ = uri.is_emergency();
    match uri {
        Uri::Sip(sip) => {
            assert!(equivalent(uri, uri) || repeats(uri), "it equals itself");
            let _ = (sip.typed_host(), sip.transport(), sip.is_loose());
            if let Some(user) = sip.user {
                let (decoded, mut escaped) = (decode(user), Vec::new());
                write_escaped_user(&decoded, &mut escaped);
                assert_eq!(decode(&escaped), decoded, "escaping loses nothing");
            }
            let mut aor = b"sip:".to_vec();
            sip.write_aor(&mut aor);
            let again = Uri::parse(&aor).expect("an AoR is a URI");
            let again = again.as_sip().expect("a SIP URI");
            assert_eq!((again.decoded_user(), again.address()), (sip.decoded_user(), sip.address()));
            let mut twice = b"sip:".to_vec();
            again.write_aor(&mut twice);
            assert_eq!(twice, aor, "an AoR's AoR is itself");
        }
        Uri::Tel(tel) => {
            let mut digits = Vec::new();
            tel.write_digits(&mut digits);
            let _ = (tel.is_global(), tel.phone_context());
            assert!(digits.len() <= tel.number.len());
        }
        Uri::Other { scheme, opaque } => assert!(!scheme.is_empty() && !opaque.is_empty()),
    }
}

/// With two values for one parameter a URI does not even equal itself.
fn repeats(uri: &Uri<'_>) -> bool {
    let Uri::Sip(sip) = uri else { return false };
    let names: Vec<_> = sip.params.into_iter().map(|param| decode(param.name).to_ascii_lowercase()).collect();
    // Parameters and headers may be doubled, or hold escapes that are none.
    names.iter().enumerate().any(|(n, name)| names[n + 1..].contains(name))
        || sip.raw.contains(&b'%')
        || !sip.headers.is_empty()
}
