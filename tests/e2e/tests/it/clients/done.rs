//! What a client did, what it cannot, and what must be on record of it.

use std::collections::BTreeMap;
use std::io::Write;

/// What is tried, in the order of the table.
const WHAT: [&str; 18] = [
    "register",
    "call",
    "be called",
    "hold",
    "resume",
    "re-INVITE by client",
    "re-INVITE by peer",
    "session refresh",
    "CANCEL",
    "busy",
    "no answer",
    "fork, one answer",
    "PRACK",
    "blind transfer",
    "attended transfer",
    "be transferred",
    "BLF",
    "MESSAGE",
];

/// Transports that a client does not have.
const WITHOUT: [&str; 3] = [
    "wss: baresip 1.0, PJSIP, SIPp and sipsak have no WebSocket; JsSIP has nothing else",
    "sipp tls: Debian's 3.6.1 is built without",
    "sipsak tls: 0.9.8.1 sends its request and does not wait for the answer",
];

/// One client over one transport.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) client: String,
    pub(super) transport: &'static str,
    /// Users whose calls these are.
    pub(super) users: Vec<String>,
    cells: BTreeMap<&'static str, Result<(), &'static str>>,
    /// Rows of `cdr` by category.
    pub(super) records: BTreeMap<String, usize>,
    /// Events `call.transferred` by kind.
    pub(super) transfers: BTreeMap<String, usize>,
}

impl Done {
    pub(super) fn of(client: &str, transport: &'static str, users: &[String]) -> Self {
        let (client, users) = (client.to_owned(), users.to_vec());
        Self {
            client,
            transport,
            users,
            cells: BTreeMap::new(),
            records: BTreeMap::new(),
            transfers: BTreeMap::new(),
        }
    }

    pub(super) fn did(&mut self, what: &'static str) {
        assert!(WHAT.contains(&what), "{what} is in the table");
        self.cells.insert(what, Ok(()));
    }

    pub(super) fn cannot(&mut self, what: &'static str, why: &'static str) {
        assert!(WHAT.contains(&what), "{what} is in the table");
        self.cells.insert(what, Err(why));
    }

    /// Nor anything that was not spoken of.
    pub(super) fn cannot_else(&mut self, why: &'static str) {
        for what in WHAT {
            self.cells.entry(what).or_insert(Err(why));
        }
    }

    /// So many more rows of a category: one for each way through the edge.
    pub(super) fn record(&mut self, category: &str, rows: usize) {
        *self.records.entry(category.to_owned()).or_default() += rows;
    }

    /// A transfer, which both ways through the edge tell of.
    pub(super) fn transfer(&mut self, kind: &str) {
        *self.transfers.entry(kind.to_owned()).or_default() += 2;
    }
}

/// Says past the test's capture what was covered; what a client cannot do has its reason below.
pub(super) fn print(rows: &[Done]) {
    let mut text = format!("\n{:22}", "");
    let heads: Vec<String> = rows.iter().map(|row| format!("{} {}", row.client, row.transport)).collect();
    text += &heads.iter().map(|head| format!("{head:12} ")).collect::<String>();
    let mut reasons: Vec<String> = Vec::new();
    for what in WHAT {
        text += &format!("\n{what:22}");
        for row in rows {
            let cell = match row.cells.get(what) {
                Some(Ok(())) => "done".to_owned(),
                Some(Err(why)) => {
                    let reason = format!("{}: {why}", row.client);
                    if !reasons.contains(&reason) {
                        reasons.push(reason.clone());
                    }
                    let at = reasons.iter().position(|known| *known == reason).map_or(0, |at| at + 1);
                    format!("no ({at})")
                }
                None => panic!("{} {} says nothing of {what}", row.client, row.transport),
            };
            text += &format!("{cell:12} ");
        }
    }
    text += "\n";
    for (at, reason) in reasons.iter().enumerate() {
        text += &format!("({}) {reason}\n", at + 1);
    }
    WITHOUT.iter().for_each(|line| text += &format!("{line}\n"));
    let _ = std::io::stdout().write_all(text.as_bytes());
}
