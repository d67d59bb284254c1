//! The choice in words, for `signalbox route` and for notes about a watched call.

use super::select::{Nobody, Query, Route, Source};

/// One line for people: what was asked, what was chosen and why.
#[must_use]
pub fn explain(query: &Query<'_>, route: &Route<'_>) -> String {
    let user = query.user.map_or_else(|| "(no user)".into(), String::from_utf8_lossy);
    let asked = match query.source {
        Source::Endpoint | Source::Neighbour => {
            format!("a phone of {} calls {user}@{}", query.tenant, query.domain)
        }
        Source::Backend => format!("a backend of {} calls {user}@{}", query.tenant, query.domain),
    };
    match route {
        Route::Backends => format!("{asked}: to the tenant's backends by health, priority and weight"),
        Route::Contacts { basis, contacts } => {
            let list: Vec<String> =
                contacts.iter().map(|(aor, b)| format!("{} over {}", aor.address(), b.flow)).collect();
            format!("{asked}: by {basis} to {}", list.join(", "))
        }
        Route::Nobody(Nobody::NotFound) => format!("{asked}: 404, this tenant has no such user or token"),
        Route::Nobody(Nobody::Unreachable) => {
            format!("{asked}: 480, registered, but no flow leads there now")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_nobody_when_explained_then_the_reason_is_named() {
        let query = Query {
            tenant: "acme",
            domain: "a.example",
            user: Some(b"401"),
            uri: b"sip:401@a.example",
            path: None,
            source: Source::Backend,
        };
        let line = explain(&query, &Route::Nobody(Nobody::NotFound));
        assert_eq!(line, "a backend of acme calls 401@a.example: 404, this tenant has no such user or token");
    }
}
