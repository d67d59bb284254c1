//! Real phones of several makers through the edge to a real Kamailio and a real Asterisk: what each does, over what, as a table.

mod done;
mod tools;

use crate::authority::Authority;
use done::Done;
use serde_json::Value;
use signalbox_e2e::asterisk::{Asterisk, Plan};
use signalbox_e2e::client::{Account, Client, Kind};
use signalbox_e2e::edge::HOST;
use signalbox_e2e::kamailio::Kamailio;
use signalbox_e2e::phone::Dialog;
use signalbox_e2e::{Edge, Message, Phone, World, wait};
use std::collections::BTreeMap;
use std::net::SocketAddr;

const PROXY: &str = "kam.test";
const SWITCH: &str = "ast.test";
const TRANSPORTS: [(&str, u16); 4] = [("udp", 5060), ("tcp", 5060), ("tls", 5061), ("wss", 5443)];

/// An edge on all transports before both PBXs.
struct Place {
    edge: Edge,
    _asterisk: Asterisk,
    authority: Authority,
    _kamailio: Kamailio,
}

fn place(world: &World) -> Place {
    let authority = Authority::new(world, "ca");
    authority.sign(world, "edge", &world.ip(HOST).to_string(), 90);
    let kamailio = Kamailio::start(world, "kamailio", world.at(2, 5060), world.ip(HOST));
    let users: Vec<String> = (0..RUNS.len()).flat_map(|run| [5, 6].map(|kind| user(kind, run))).collect();
    let users: Vec<&str> = users.iter().map(String::as_str).collect();
    let dialplan = "exten => _6X,1,Dial(${PJSIP_DIAL_CONTACTS(${EXTEN})},1)\n same => n,Hangup(19)\n\
                    exten => _6X,hint,PJSIP/${EXTEN}\nexten => 100,1,Answer()\n same => n,Echo()";
    let asterisk = Asterisk::start(
        world,
        "asterisk",
        world.at(3, 5060),
        &Plan { users: &users, dialplan, ..Plan::default() },
    );
    let dir = world.dir().display();
    let mut text = format!(
        "[[tls.certificate]]\ncertificate_file = \"{dir}/edge.pem\"\nkey_file = \"{dir}/edge.key\"\n"
    );
    for (transport, port) in TRANSPORTS {
        text += &format!("[[listener]]\naddress = \"{transport}:{}\"\n", world.at(HOST, port));
    }
    // SIPp calls over another connection than it registered over, so that it is a stranger then.
    for (name, pbx, of_backend, of_tenant) in [
        ("kam", kamailio.address(), ", early_dialogs = \"multiple\"", "calls_from = \"any\"\n"),
        ("ast", asterisk.address(), "", ""),
    ] {
        text += &format!(
            "[[tenant]]\nname = \"{name}\"\ndomains = [\"{name}.test\"]\n{of_tenant}\
             backends = [{{ name = \"{name}\", address = \"udp:{pbx}\"{of_backend} }}]\n"
        );
    }
    let mut edge = Edge::configured(world, &text);
    edge.start();
    edge.await_backend("kam", "up");
    edge.await_backend("ast", "up");
    Place { edge, _asterisk: asterisk, authority, _kamailio: kamailio }
}

/// Each client over each transport that it has.
const RUNS: [(Kind, usize); 7] = [
    (Kind::Baresip, 0),
    (Kind::Baresip, 1),
    (Kind::Baresip, 2),
    (Kind::Pjsua, 0),
    (Kind::Pjsua, 1),
    (Kind::Pjsua, 2),
    (Kind::Jssip, 3),
];

/// The client's own user (5), whom it calls (6), and a third (7) of a run.
fn user(kind: usize, run: usize) -> String {
    format!("{kind}{run}")
}

#[test]
fn given_real_phones_over_every_transport_when_they_do_what_phones_do_then_events_and_records_say_so() {
    let world = World::new("clients");
    let place = place(&world);
    let mut rows: Vec<Done> = std::thread::scope(|scope| {
        let (world, place) = (&world, &place);
        let runs = (0..RUNS.len()).map(|run| scope.spawn(move || Run::new(world, place, run).all()));
        let runs: Vec<_> = runs.collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    });
    rows.extend(tools::all(&world, &place));
    done::print(&rows);
    records_agree(&place.edge, &rows);
}

/// Each client's calls and transfers are on record, one for each way through the edge, and no others.
fn records_agree(edge: &Edge, rows: &[Done]) {
    let count = rows.iter().flat_map(|row| row.records.values()).sum();
    let records = edge.await_rows(&["cdr", "--last", "1000"], count);
    let transfers = edge.events("call.transferred");
    let of = |row: &Done, value: &Value| {
        let text = value.as_str().unwrap_or_default();
        row.users.iter().any(|user| text == user || text.starts_with(&format!("{user}@")))
    };
    for row in rows {
        let mut found: BTreeMap<String, usize> = BTreeMap::new();
        for record in records.iter().filter(|record| of(row, &record["caller"]) || of(row, &record["callee"]))
        {
            *found.entry(record["category"].as_str().unwrap().to_owned()).or_default() += 1;
        }
        assert_eq!(found, row.records, "{} {}: {records:#?}", row.client, row.transport);
        let mut told: BTreeMap<String, usize> = BTreeMap::new();
        let mut completed = 0_usize;
        for event in transfers.iter().map(|event| &event["data"]).filter(|data| of(row, &data["target"])) {
            // Told when it is taken, and again when it has come to its end.
            match event["outcome"].as_str() {
                Some("accepted") => *told.entry(event["kind"].as_str().unwrap().to_owned()).or_default() += 1,
                Some("completed") => completed += 1,
                _ => panic!("{event}"),
            }
        }
        // Between the Kamailio's workers a BYE may overtake the NOTIFY before it, on one of both ways through the edge.
        assert!(
            2 * completed >= told.values().sum::<usize>(),
            "{} {}: {transfers:#?}",
            row.client,
            row.transport
        );
        assert_eq!(told, row.transfers, "{} {}: {transfers:#?}", row.client, row.transport);
    }
}

/// What one client does over one transport, with scripted phones at the other end.
struct Run<'p> {
    kind: Kind,
    at: [String; 3],
    client: Client,
    switched: Client,
    place: &'p Place,
    called: Phone,
    second: Phone,
    third: Phone,
    done: Done,
}

impl<'p> Run<'p> {
    fn new(world: &'p World, place: &'p Place, run: usize) -> Self {
        let (kind, over) = RUNS[run];
        let (transport, port) = TRANSPORTS[over];
        let at = [5, 6, 7].map(|kind| user(kind, run));
        let host = 30 + u8::try_from(run).unwrap();
        let start = |domain: &str, host: u8| {
            let edge = world.at(HOST, port);
            let account = Account {
                user: &at[0],
                domain,
                transport,
                edge,
                local: world.ip(host),
                ca: &place.authority.ca,
            };
            Client::start(world, kind, &account)
        };
        let (client, switched) = (start(PROXY, host), start(SWITCH, host + 10));
        let ports = 6000 + 10 * u16::try_from(run).unwrap();
        let scripted = |user: &str, port: u16| {
            let mut phone = Phone::new(user, PROXY, world.at(20, ports + port), place.edge.sip());
            assert_eq!(phone.register(600).status(), Some(200));
            phone
        };
        let (called, third) = (scripted(&at[1], 0), scripted(&at[2], 1));
        let second = Phone::new(&at[1], PROXY, world.at(20, ports + 2), place.edge.sip());
        let done = Done::of(&format!("{kind:?}").to_lowercase(), transport, &at);
        Self { kind, at, client, switched, place, called, second, third, done }
    }

    fn all(mut self) -> Done {
        self.done.did("register");
        self.calls_and_is_held();
        self.is_called();
        self.gives_up();
        self.finds_it_busy();
        self.waits_in_vain();
        self.is_transferred();
        self.transfers();
        self.reaches_one_of_two();
        self.acknowledges_provisionally();
        self.watches();
        self.writes();
        self.done
    }

    fn target(&self) -> String {
        format!("sip:{}@{PROXY}", self.at[1])
    }

    /// The client calls, and whoever is called accepts.
    fn up(&mut self) -> Dialog {
        self.client.forget();
        self.client.ask("dial", &self.target());
        let invite = self.called.rung();
        self.called.answer(&invite, 180, "Ringing");
        self.client.hears("CALL_RINGING");
        let dialog = self.called.accept(&invite);
        self.client.hears("CALL_ESTABLISHED");
        dialog
    }

    fn client_hangs_up(&mut self) {
        self.client.ask("hangup", "");
        let bye = self.called.asked("BYE");
        self.called.answer(&bye, 200, "OK");
        self.client.hears("CALL_CLOSED");
    }

    fn calls_and_is_held(&mut self) {
        let mut dialog = self.up();
        for (command, direction) in [("hold", "sendonly"), ("resume", "sendrecv")] {
            self.client.ask(command, "");
            let invite = self.called.rung();
            assert!(invite.body.contains(&format!("a={direction}")) || direction == "sendrecv", "{invite}");
            self.called.accept(&invite);
        }
        for direction in ["sendonly", "sendrecv"] {
            assert_eq!(self.called.offer_again(&mut dialog, direction).status(), Some(200));
        }
        for what in ["call", "hold", "resume", "re-INVITE by client", "re-INVITE by peer"] {
            self.done.did(what);
        }
        let more = "Supported: timer\r\nSession-Expires: 90;refresher=uac\r\nMin-SE: 90\r\n";
        let answer = self.offer_with(&mut dialog, more);
        assert_eq!(answer.status(), Some(200), "{answer}");
        match self.kind {
            Kind::Pjsua | Kind::Jssip => {
                assert!(
                    answer.header("Session-Expires").is_some_and(|said| said.starts_with("90")),
                    "{answer}"
                );
                self.done.did("session refresh");
            }
            Kind::Baresip => self.done.cannot("session refresh", "1.0 has no session timers"),
        }
        self.client_hangs_up();
        self.done.record("answered", 2);
    }

    fn offer_with(&mut self, dialog: &mut Dialog, more: &str) -> Message {
        let sdp = self.called.sdp("sendrecv");
        let contact = self.called.contact();
        let more = format!("{more}Contact: <{contact}>\r\nContent-Type: application/sdp\r\n");
        self.called.ask(dialog, "INVITE", &more, &sdp)
    }

    fn is_called(&mut self) {
        self.client.forget();
        let dialing = self.called.dial(&format!("sip:{}@{PROXY}", self.at[0]));
        self.client.hears("CALL_INCOMING");
        self.client.ask("accept", "");
        let (answer, dialog) = self.called.conclude(dialing);
        assert_eq!(answer.status(), Some(200), "{answer}");
        self.client.hears("CALL_ESTABLISHED");
        assert_eq!(self.called.hang_up(&mut dialog.unwrap()).status(), Some(200));
        self.client.hears("CALL_CLOSED");
        self.done.did("be called");
        self.done.record("answered", 2);
    }

    fn gives_up(&mut self) {
        self.client.forget();
        self.client.ask("dial", &self.target());
        let invite = self.called.rung();
        self.called.answer(&invite, 180, "Ringing");
        self.client.hears("CALL_RINGING");
        self.client.ask("hangup", "");
        cancelled(&mut self.called, &invite);
        self.done.did("CANCEL");
        self.done.record("cancelled", 2);
    }

    fn finds_it_busy(&mut self) {
        self.client.forget();
        self.client.ask("dial", &self.target());
        let invite = self.called.rung();
        self.called.answer(&invite, 486, "Busy Here");
        self.called.asked("ACK");
        self.client.hears("CALL_CLOSED");
        self.done.did("busy");
        self.done.record("busy", 2);
    }

    /// The Asterisk rings for a second, and then says 480.
    fn waits_in_vain(&mut self) {
        let local = SocketAddr::new(self.called.local.ip(), self.called.local.port() + 3);
        let mut silent = Phone::new(&self.at[1], SWITCH, local, self.place.edge.sip());
        assert_eq!(silent.register(600).status(), Some(200));
        self.switched.forget();
        self.switched.ask("dial", &format!("sip:{}@{SWITCH}", self.at[1]));
        let invite = silent.rung();
        silent.answer(&invite, 180, "Ringing");
        cancelled(&mut silent, &invite);
        self.switched.hears("CALL_CLOSED");
        self.done.did("no answer");
        self.done.record("no_answer", 1);
        self.done.record("cancelled", 1);
    }

    /// Whom it talks to sends it to a third.
    fn is_transferred(&mut self) {
        let mut dialog = self.up();
        let more =
            format!("Refer-To: <sip:{}@{PROXY}>\r\nContact: <{}>\r\n", self.at[2], self.called.contact());
        assert_eq!(self.called.ask(&mut dialog, "REFER", &more, "").status(), Some(202));
        let invite = self.third.rung();
        let mut with_third = self.third.accept(&invite);
        let told = wait::until("the transfer to be told", || {
            let notify = self.called.asked("NOTIFY");
            self.called.answer(&notify, 200, "OK");
            notify.body.starts_with("SIP/2.0 200").then_some(notify)
        });
        assert!(
            told.header("Subscription-State").is_some_and(|state| state.starts_with("terminated")),
            "{told}"
        );
        // PJSIP leaves it to whoever asked to end the first call; baresip may end it itself.
        let _ = self.called.hang_up(&mut dialog);
        assert_eq!(self.third.hang_up(&mut with_third).status(), Some(200));
        self.done.did("be transferred");
        self.done.record("answered", 4);
        self.done.transfer("blind");
    }

    /// It sends whom it talks to to a third; but for baresip also after it has talked to that one.
    fn transfers(&mut self) {
        let mut dialog = self.up();
        self.client.ask("transfer", &format!("sip:{}@{PROXY}", self.at[2]));
        self.referred(&mut dialog, |refer_to| !refer_to.contains("Replaces"));
        self.end(&mut dialog);
        self.done.did("blind transfer");
        self.done.record("answered", 2);
        self.done.transfer("blind");
        if self.kind == Kind::Baresip {
            return self.done.cannot("attended transfer", "1.0 has no command for an attended transfer");
        }
        let mut dialog = self.up();
        self.client.ask("hold", "");
        let invite = self.called.rung();
        self.called.accept(&invite);
        self.client.forget();
        self.client.ask("dial", &format!("sip:{}@{PROXY}", self.at[2]));
        let invite = self.third.rung();
        let mut with_third = self.third.accept(&invite);
        self.client.hears("CALL_ESTABLISHED");
        self.client.ask("attended", "");
        let third = invite.call_id().to_owned();
        self.referred(&mut dialog, |refer_to| refer_to.contains("Replaces"));
        assert_eq!(third, with_third.call_id);
        self.end(&mut dialog);
        let _ = self.third.hang_up(&mut with_third);
        self.done.did("attended transfer");
        self.done.record("answered", 4);
        self.done.transfer("attended");
    }

    /// Who is referred takes that, and tells that it went well.
    fn referred(&mut self, dialog: &mut Dialog, fits: impl Fn(&str) -> bool) {
        let refer = self.called.asked("REFER");
        assert!(refer.header("Refer-To").is_some_and(fits), "{refer}");
        let contact = format!("Contact: <{}>\r\n", self.called.contact());
        self.called.answer_with(&refer, 202, "Accepted", &contact, "");
        let more = "Event: refer\r\nSubscription-State: terminated;reason=noresource\r\nContent-Type: message/sipfrag\r\n";
        let answer = self.called.ask(dialog, "NOTIFY", &format!("{contact}{more}"), "SIP/2.0 200 OK\r\n");
        assert_eq!(answer.status(), Some(200), "{answer}");
    }

    /// Both hang up; whoever is later finds the call gone.
    fn end(&mut self, dialog: &mut Dialog) {
        let _ = self.called.hang_up(dialog);
        self.client.hears("CALL_CLOSED");
    }

    /// Two phones of one user ring, and one answers.
    fn reaches_one_of_two(&mut self) {
        assert_eq!(self.second.register(600).status(), Some(200));
        self.client.forget();
        self.client.ask("dial", &self.target());
        let (at_first, at_second) = (self.called.rung(), self.second.rung());
        self.called.answer(&at_first, 180, "Ringing");
        self.second.answer(&at_second, 180, "Ringing");
        let mut dialog = self.second.accept(&at_second);
        cancelled(&mut self.called, &at_first);
        self.client.hears("CALL_ESTABLISHED");
        assert_eq!(self.second.hang_up(&mut dialog).status(), Some(200));
        self.client.hears("CALL_CLOSED");
        assert_eq!(self.second.register(0).status(), Some(200));
        self.done.did("fork, one answer");
        self.done.record("answered", 2);
        self.done.record("cancelled", 1);
    }

    fn acknowledges_provisionally(&mut self) {
        match self.kind {
            Kind::Baresip => return self.done.cannot("PRACK", "1.0 has no 100rel"),
            Kind::Jssip => return self.done.cannot("PRACK", "3.13 has no 100rel"),
            Kind::Pjsua => {}
        }
        self.client.forget();
        self.client.ask("dial", &self.target());
        let invite = self.called.rung();
        assert!(invite.all("Supported").any(|options| options.contains("100rel")), "{invite}");
        let more = format!("Require: 100rel\r\nRSeq: 7\r\nContact: <{}>\r\n", self.called.contact());
        self.called.answer_with(&invite, 180, "Ringing", &more, "");
        let prack = self.called.asked("PRACK");
        assert!(prack.header("RAck").is_some_and(|rack| rack.starts_with("7 ")), "{prack}");
        self.called.answer(&prack, 200, "OK");
        let mut dialog = self.called.accept(&invite);
        self.client.hears("CALL_ESTABLISHED");
        self.end(&mut dialog);
        self.done.did("PRACK");
        self.done.record("answered", 2);
    }

    fn writes(&mut self) {
        if self.kind == Kind::Baresip {
            return self.done.cannot("MESSAGE", "1.0 writes only to the contact chosen on its screen");
        }
        self.client.ask("message", &format!("{} hello", self.target()));
        let message = self.called.asked("MESSAGE");
        assert_eq!(message.body, "hello");
        self.called.answer(&message, 200, "OK");
        self.done.did("MESSAGE");
    }

    /// A lamp for another user's line: it is told when that one is in a call.
    fn watches(&mut self) {
        if self.kind == Kind::Baresip {
            return self.done.cannot("BLF", "1.0 tells whoever controls it of no NOTIFY");
        }
        let local = SocketAddr::new(self.called.local.ip(), self.called.local.port() + 4);
        let mut watched = Phone::new(&self.at[1], SWITCH, local, self.place.edge.sip());
        assert_eq!(watched.register(600).status(), Some(200));
        self.switched.ask("watch", &format!("sip:{}@{SWITCH}", self.at[1]));
        self.switched.hears("BLF");
        let (answer, dialog) = watched.call(&format!("sip:100@{SWITCH}"));
        assert_eq!(answer.status(), Some(200), "{answer}");
        wait::until("the lamp", || {
            let state = self.switched.hears("BLF")["param"].to_string();
            ["On the phone", "Busy", "busy"].iter().any(|busy| state.contains(busy)).then_some(())
        });
        assert_eq!(watched.hang_up(&mut dialog.unwrap()).status(), Some(200));
        self.done.did("BLF");
        self.done.record("answered", 1);
    }
}

fn cancelled(phone: &mut Phone, invite: &Message) {
    let cancel = phone.asked("CANCEL");
    phone.answer(&cancel, 200, "OK");
    phone.answer(invite, 487, "Request Terminated");
    phone.asked("ACK");
}
