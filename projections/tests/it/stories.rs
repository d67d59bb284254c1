//! Events to tell stories with.

use signalbox_base::{CallUid, EventSeq, JournalId, Text, Wall};
use signalbox_bus::{Delivered, Source};
use signalbox_schemas::Event;
use signalbox_schemas::backend::BackendStateChanged;
use signalbox_schemas::call::{
    CallAnswered, CallAttempted, CallFailed, CallModified, CallProgressed, CallRouted, Cdr, RouteTarget,
};
use signalbox_schemas::registration::{
    RegistrationAdded, RegistrationExpired, RegistrationRefreshed, RegistrationRemoved,
};
use signalbox_schemas::values::EventId;
use signalbox_schemas::words::{
    BackendState, Category, FailureStage, ModificationKind, Party, RemovalReason, TargetKind,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// An edge that writes events, numbered as a journal does; each a second after the one before.
pub(crate) struct Edge {
    pub(crate) name: Text,
    source: Arc<Source>,
    seq: u64,
    domains: BTreeMap<String, u64>,
    now: Wall,
    pub(crate) events: Vec<Delivered>,
}

pub(crate) const START: Wall = Wall(1_700_000_000_000_000);

impl Edge {
    pub(crate) fn new(n: u8) -> Self {
        let name: Text = format!("edge-{n}").into();
        let source = Source { cluster: "test".into(), edge: name.clone(), journal: JournalId(n.into()) };
        let (seq, domains, events) = (0, BTreeMap::new(), Vec::new());
        Self { name, source: Arc::new(source), seq, domains, now: START, events }
    }

    /// When the last event happened.
    pub(crate) fn now(&self) -> Wall {
        self.now
    }

    pub(crate) fn tell(&mut self, tenant: &str, subject: &str, event: impl Into<Event>) -> Delivered {
        let event = event.into();
        let mut data = Vec::new();
        event.write_data(&mut data);
        self.tell_raw(tenant, subject, event.kind().versioned(), &data)
    }

    pub(crate) fn tell_raw(&mut self, tenant: &str, subject: &str, kind: &str, data: &[u8]) -> Delivered {
        self.seq += 1;
        self.now = Wall(self.now.0 + 1_000_000);
        let domain = kind.split('.').next().unwrap().to_owned();
        let domain_seq = self.domains.entry(domain).or_default();
        *domain_seq += 1;
        let event = Delivered {
            source: Arc::clone(&self.source),
            seq: EventSeq(self.seq),
            domain_seq: *domain_seq,
            kind: kind.into(),
            tenant: tenant.into(),
            subject: subject.into(),
            time: self.now,
            recorded: self.now,
            correlation: "".into(),
            traceparent: Text::default(),
            causation: EventSeq(0),
            foreign_cause: Text::default(),
            data: data.into(),
        };
        self.events.push(event.clone());
        event
    }

    pub(crate) fn added(&mut self, tenant: &str, aor: &str, from: &str) {
        let added = RegistrationAdded {
            edge: self.name.clone(),
            aor: aor.into(),
            binding: format!("b-{aor}").into(),
            domain: aor.split_once('@').unwrap().1.into(),
            backend: Some("pbx-1".into()),
            contact: "sip:401@10.0.0.9;ob".into(),
            received: Some(from.parse().unwrap()),
            instance_id: Some("urn:uuid:00000000-0000-0000-0000-000000000001".into()),
            methods: vec!["INVITE".into(), "BYE".into()],
            expires_at: Wall(self.now.0 + 600_000_000).into(),
            user_agent: Some("Phone/1".into()),
            call_id: "reg-1".into(),
            // More than an INTEGER holds: a phone may write what it likes.
            cseq: u32::MAX,
            socket: "udp:192.0.2.1:5060".parse().unwrap(),
            ..RegistrationAdded::default()
        };
        self.tell(tenant, &format!("{tenant}/{aor}"), added);
    }

    pub(crate) fn refreshed(&mut self, tenant: &str, aor: &str, moved_to: Option<&str>) {
        let refreshed = RegistrationRefreshed {
            edge: self.name.clone(),
            aor: aor.into(),
            binding: format!("b-{aor}").into(),
            contact: "sip:401@10.0.0.9;ob".into(),
            expires_at: Wall(self.now.0 + 600_000_000).into(),
            cseq: 7,
            received: moved_to.map(|to| to.parse().unwrap()),
            ..RegistrationRefreshed::default()
        };
        self.tell(tenant, &format!("{tenant}/{aor}"), refreshed);
    }

    pub(crate) fn removed(&mut self, tenant: &str, aor: &str) {
        let removed = RegistrationRemoved {
            edge: self.name.clone(),
            aor: aor.into(),
            binding: format!("b-{aor}").into(),
            reason: RemovalReason::Client,
            ..RegistrationRemoved::default()
        };
        self.tell(tenant, &format!("{tenant}/{aor}"), removed);
    }

    pub(crate) fn expired(&mut self, tenant: &str, aor: &str) {
        let expired = RegistrationExpired {
            edge: self.name.clone(),
            aor: aor.into(),
            binding: format!("b-{aor}").into(),
            expired_at: self.now.into(),
            ..RegistrationExpired::default()
        };
        self.tell(tenant, &format!("{tenant}/{aor}"), expired);
    }

    /// Begins a call and returns what its record needs.
    pub(crate) fn attempted(&mut self, tenant: &str, call: u64) -> Call {
        let uid = CallUid(call << 8 | u64::try_from(self.source.journal.0).unwrap());
        let attempted = CallAttempted {
            edge: self.name.clone(),
            call_id: "c@phone".into(),
            from_uri: "sip:401@acme.test".into(),
            caller: "401".into(),
            callee: "402".into(),
            ..CallAttempted::default()
        };
        let event = self.tell(tenant, &uid.to_string(), attempted);
        let cdr_id = EventId { journal: self.source.journal, seq: event.seq };
        Call { tenant: tenant.to_owned(), uid, cdr_id, invited_at: event.time, answered_at: None }
    }

    pub(crate) fn routed(&mut self, call: &Call, attempt: u32) {
        let target =
            RouteTarget { kind: TargetKind::Backend, name: "pbx-1".into(), ..RouteTarget::default() };
        let routed = CallRouted { edge: self.name.clone(), attempt, target, ..CallRouted::default() };
        self.tell(&call.tenant, &call.uid.to_string(), routed);
    }

    pub(crate) fn progressed(&mut self, call: &Call) {
        let progressed =
            CallProgressed { edge: self.name.clone(), status: 180, pdd_ms: 210, ..Default::default() };
        self.tell(&call.tenant, &call.uid.to_string(), progressed);
    }

    pub(crate) fn answered(&mut self, call: &mut Call) {
        let codecs = vec!["opus".into(), "PCMU".into()];
        let answered =
            CallAnswered { edge: self.name.clone(), setup_ms: 708, codecs, ..CallAnswered::default() };
        let event = self.tell(&call.tenant, &call.uid.to_string(), answered);
        call.answered_at = Some(event.time);
    }

    pub(crate) fn held(&mut self, call: &Call, kind: ModificationKind) {
        let modified =
            CallModified { edge: self.name.clone(), by: Party::Callee, kind, ..CallModified::default() };
        self.tell(&call.tenant, &call.uid.to_string(), modified);
    }

    fn record(&self, call: &Call) -> Cdr {
        Cdr {
            edge: self.name.clone(),
            cdr_id: call.cdr_id,
            tenant: call.tenant.as_str().into(),
            call_uid: call.uid,
            ingress_call_id: "c@phone".into(),
            caller: "401".into(),
            callee: "402".into(),
            diversion: vec!["sip:a,b@acme.test".into()],
            invited_at: call.invited_at.into(),
            answered_at: call.answered_at.map(Into::into),
            ended_at: Wall(self.now.0 + 1_000_000).into(),
            billable_ms: 32_000,
            status: 200,
            category: Category::Answered,
            codecs: vec!["opus".into()],
            first_sequence: call.cdr_id.seq,
            ..Cdr::default()
        }
    }

    pub(crate) fn ended(&mut self, call: &Call) {
        let record = self.record(call);
        self.tell(&call.tenant, &call.uid.to_string(), record);
    }

    pub(crate) fn failed(&mut self, call: &Call) {
        let cdr = Cdr { status: 486, category: Category::Busy, ..self.record(call) };
        let failed = CallFailed { cdr, stage: FailureStage::Ringing };
        self.tell(&call.tenant, &call.uid.to_string(), failed);
    }

    pub(crate) fn backend(&mut self, tenant: &str, name: &str, from: BackendState, to: BackendState) {
        let changed = BackendStateChanged {
            edge: self.name.clone(),
            backend: name.into(),
            from,
            to,
            consecutive: 3,
            ..BackendStateChanged::default()
        };
        self.tell(tenant, name, changed);
    }
}

/// A call on its way.
pub(crate) struct Call {
    pub(crate) tenant: String,
    pub(crate) uid: CallUid,
    pub(crate) cdr_id: EventId,
    invited_at: Wall,
    answered_at: Option<Wall>,
}
