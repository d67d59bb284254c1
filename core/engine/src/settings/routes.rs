//! Routes, the groups that they lead to, and what a tenant says of its numbers.

use super::headers::Borders;
use super::templates::Template;
use signalbox_base::{TenantId, Text, Wall};
use std::sync::Arc;
use std::time::Duration;

/// What is said of calls beside who calls whom.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// In the order of the file: the first that matches a call and leads somewhere decides, whatever stands behind it.
    pub routes: Vec<Rule>,
    /// What peers want done to header fields.
    pub borders: Borders,
}

/// One `[[route]]`.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Its name, or its place (`route[0]`): what events and explanations call it.
    pub name: Text,
    /// Whose calls it is for; none is for those of every tenant.
    pub tenant: Option<TenantId>,
    /// Which calls: all conditions that are there must hold.
    pub matches: Match,
    /// What later rules may ask for.
    pub tags: Vec<Text>,
    /// Where the call goes; none only sets tags.
    pub to: Option<To>,
    /// How numbers are written on its way.
    pub template: Option<Arc<Template>>,
}

/// Conditions of a rule. Of a list one entry must match; an empty list asks for nothing.
#[derive(Clone, Debug, Default)]
pub struct Match {
    /// Where the call comes from.
    pub source: Vec<Who>,
    /// What was dialled, as it was dialled or in E.164.
    pub number: Vec<Pattern>,
    /// The domain that the call is in.
    pub domain: Vec<Text>,
    /// Who calls: the user of From, as it is written or in E.164.
    pub caller: Vec<Pattern>,
    /// Header fields: each must be there.
    pub headers: Vec<HeaderMatch>,
    /// When.
    pub when: Vec<When>,
    /// Tags that earlier rules set: all of them.
    pub tags: Vec<Text>,
}

impl Match {
    /// Whether every call matches.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        let Self { source, number, domain, caller, headers, when, tags } = self;
        let lists =
            [source.len(), number.len(), domain.len(), caller.len(), headers.len(), when.len(), tags.len()];
        lists.iter().all(|len| *len == 0)
    }
}

/// Where a call comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// A phone.
    Endpoints,
    /// Any backend of the tenant.
    Backends,
    /// Any trunk.
    Trunks,
    /// The backend or trunk of this name.
    Named(Text),
}

/// What a number, caller or header value may be.
#[derive(Clone, Debug)]
pub enum Pattern {
    /// This and nothing else.
    Exact(Text),
    /// Begins with this.
    Prefix(Text),
    /// Matches the expression somewhere.
    Regex(regex::Regex),
    /// A caller who does not say who it is (RFC 3323), or whose user part is empty.
    Anonymous,
}

impl Pattern {
    /// Whether a value is meant.
    #[must_use]
    pub fn is_match(&self, value: &str) -> bool {
        match self {
            Self::Exact(text) => **text == *value,
            Self::Prefix(text) => value.starts_with(&**text),
            Self::Regex(regex) => regex.is_match(value),
            Self::Anonymous => value.is_empty() || value.eq_ignore_ascii_case("anonymous"),
        }
    }

    /// As the file says it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Exact(text) | Self::Prefix(text) => text,
            Self::Regex(regex) => regex.as_str(),
            Self::Anonymous => "anonymous",
        }
    }
}

/// A header field that a call must have.
#[derive(Clone, Debug)]
pub struct HeaderMatch {
    /// Its name, compared without case.
    pub name: Text,
    /// Its value; none asks only that it is there.
    pub value: Option<Pattern>,
}

/// Some hours of some weekdays in a zone.
#[derive(Clone, Debug)]
pub struct When {
    /// Weekdays, bit 0 is Monday.
    pub days: u8,
    /// Minute of the day at which it begins.
    pub from: u16,
    /// Minute of the day at which it is over; at or before `from` it is on the next day, which needs not be listed.
    pub until: u16,
    /// The zone.
    pub zone: Arc<Zone>,
}

/// A time zone as it was when the configuration was loaded: what it says of a moment depends on the moment alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    /// Its IANA name.
    pub name: Text,
    /// Offset from UTC in seconds before the first transition.
    pub before: i32,
    /// From when (seconds since 1970) which offset holds, in order.
    pub transitions: Vec<(i64, i32)>,
}

impl Zone {
    /// Weekday (0 is Monday) and minute of the day at a moment.
    #[must_use]
    pub fn local(&self, at: Wall) -> (u8, u16) {
        const DAY_SECS: i64 = 86_400;
        let utc = at.0.div_euclid(1_000_000);
        let behind = self.transitions.partition_point(|(from, _)| *from <= utc);
        let offset = behind.checked_sub(1).map_or(self.before, |place| self.transitions[place].1);
        let local = utc + i64::from(offset);
        // 1970-01-01 was a Thursday.
        let weekday = (local.div_euclid(DAY_SECS) + 3).rem_euclid(7);
        let minute = local.rem_euclid(DAY_SECS) / 60;
        (u8::try_from(weekday).unwrap_or(0), u16::try_from(minute).unwrap_or(0))
    }
}

impl When {
    /// Whether a moment lies in it.
    #[must_use]
    pub fn contains(&self, at: Wall) -> bool {
        let (today, minute) = self.zone.local(at);
        let on = |day: u8| self.days & (1 << day) != 0;
        if self.from < self.until {
            return on(today) && (self.from..self.until).contains(&minute);
        }
        on(today) && minute >= self.from || on((today + 6) % 7) && minute < self.until
    }
}

/// Where a rule sends a call.
#[derive(Clone, Debug)]
pub enum To {
    /// The tenant's backends.
    Backends,
    /// Trunks or backends, one after the other.
    Group(Arc<Group>),
    /// Registered users.
    Ring(Ring),
    /// Nowhere.
    Reject(Rejection),
    /// Back to the caller, who may try these.
    Redirect(Vec<Text>),
}

impl To {
    /// What it is, in a word for programs.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Backends => "backends",
            Self::Group(_) => "group",
            Self::Ring(_) => "ring",
            Self::Reject(_) => "reject",
            Self::Redirect(_) => "redirect",
        }
    }
}

/// Peers to be tried in turn.
#[derive(Clone, Debug)]
pub struct Group {
    /// Its name: of the group, or of the one peer.
    pub name: Text,
    /// Who is in it.
    pub members: Vec<Member>,
    /// What makes one call go where another went.
    pub affinity: Affinity,
    /// Final statuses after which the next member is tried, beside silence and transport errors.
    pub failover_on: Vec<u16>,
    /// A member that failed so is tried after the others for this long.
    pub cool_down: Duration,
    /// Limits of all members together.
    pub limits: PeerLimits,
}

impl Group {
    /// Of peers in this order.
    #[must_use]
    pub fn in_order(name: Text, peers: impl IntoIterator<Item = MemberName>) -> Self {
        let members = (1..).zip(peers).map(|(priority, peer)| Member {
            peer,
            priority,
            weight: 1,
            limits: PeerLimits::default(),
        });
        Self {
            name,
            members: members.collect(),
            affinity: Affinity::None,
            failover_on: vec![503],
            cool_down: Duration::ZERO,
            limits: PeerLimits::default(),
        }
    }
}

/// A peer in a group.
#[derive(Clone, Debug)]
pub struct Member {
    /// Who.
    pub peer: MemberName,
    /// Lower is tried first.
    pub priority: u16,
    /// Share among equals of a priority; 0 takes none while another is there.
    pub weight: u16,
    /// How much it takes from this group.
    pub limits: PeerLimits,
}

/// Who is in a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberName {
    /// A backend of a tenant.
    Backend(TenantId, Text),
    /// A trunk.
    Trunk(Text),
}

/// What makes one call go where another went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Affinity {
    /// Chance alone.
    #[default]
    None,
    /// The caller.
    Caller,
    /// The number that was dialled.
    Number,
    /// The Call-ID.
    CallId,
}

/// How much a peer or group takes. `None` is unlimited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerLimits {
    /// Calls at a time.
    pub calls: Option<u32>,
    /// New calls a second.
    pub calls_per_second: Option<u32>,
}

/// Users to be rung.
#[derive(Clone, Debug)]
pub struct Ring {
    /// `user@domain`; those of one stage ring at once, a stage after the one before it.
    pub stages: Vec<Vec<Text>>,
    /// How long a stage rings before the next one does.
    pub ring_for: Duration,
}

/// A refusal that a rule wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// 400 to 699.
    pub status: u16,
    /// The reason phrase; none is the status's own.
    pub reason: Option<Text>,
    /// Q.850 cause in a Reason header field (RFC 3326).
    pub cause: Option<u8>,
}

/// What a tenant says of numbers.
#[derive(Clone, Debug)]
pub struct Numbering {
    /// Numbers that are the tenant's: calls of shared trunks to them are its calls.
    pub own: Vec<NumberBlock>,
    /// Numbers that reach emergency services. Calls to them, and to `urn:service:sos` (RFC 5031), pass all limits.
    pub emergency: Vec<Text>,
    /// Country code without `+`; national numbers then have an E.164 form.
    pub country: Option<Text>,
    /// Whose calls are refused.
    pub blocked_callers: Vec<Pattern>,
}

impl Default for Numbering {
    fn default() -> Self {
        let emergency = ["112", "911", "999"].map(Text::new).to_vec();
        Self { own: Vec::new(), emergency, country: None, blocked_callers: Vec::new() }
    }
}

impl Numbering {
    /// Whether calls of this caller are refused.
    #[must_use]
    pub fn blocks(&self, caller: &str) -> bool {
        if self.blocked_callers.is_empty() {
            return false;
        }
        let e164 = crate::routing::e164_of(caller, Some(self));
        // Carriers write E.164 numbers without their + as well.
        let bare = caller.trim();
        let bare = bare.bytes().all(|byte| byte.is_ascii_digit()).then(|| format!("+{bare}"));
        let is = |pattern: &Pattern| {
            pattern.is_match(caller)
                || e164.as_ref().is_some_and(|e164| pattern.is_match(e164))
                || bare.as_ref().is_some_and(|bare| pattern.is_match(bare))
        };
        self.blocked_callers.iter().any(is)
    }
}

/// A number, or a block of numbers whose last digits are free.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NumberBlock {
    /// The digits that are given, without `+`.
    pub prefix: Text,
    /// How many follow.
    pub free: u8,
}

/// Digits of a number, at most (E.164 §6.1).
pub const DIGITS_MAX: usize = 15;

impl NumberBlock {
    /// Reads `+442079460000`, or `+442079460000/4`: the last four digits are free.
    ///
    /// # Errors
    /// What is wrong, for whoever wrote it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let (number, free) =
            text.split_once('/').map_or((text, Ok(0)), |(number, free)| (number, free.parse::<u8>()));
        let digits = number.strip_prefix('+').ok_or("has no + and country code")?;
        if digits.is_empty() || digits.len() > DIGITS_MAX || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err("is not + and 1 to 15 digits");
        }
        let free = free.map_err(|_| "has no number of free digits behind the slash")?;
        let given = digits.len().checked_sub(usize::from(free)).filter(|given| *given > 0);
        let given = given.ok_or("has more free digits than digits")?;
        Ok(Self { prefix: Text::new(&digits[..given]), free })
    }

    /// Whether some number is in both.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        let len = |block: &Self| block.prefix.len() + usize::from(block.free);
        let (a, b) = (&*self.prefix, &*other.prefix);
        len(self) == len(other) && (a.starts_with(b) || b.starts_with(a))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_a_block_when_written_with_free_digits_then_the_last_ones_are_free() {
        let block = NumberBlock::parse("+442079460000/4").expect("a block");
        assert_eq!((&*block.prefix, block.free), ("44207946", 4));
        let part = NumberBlock::parse("+442079460100/2").expect("a block");
        let other = NumberBlock::parse("+442079470000/4").expect("a block");
        let short = NumberBlock::parse("+44207946").expect("a number");
        assert!(block.overlaps(&part) && part.overlaps(&block) && !block.overlaps(&other));
        assert!(!block.overlaps(&short), "a shorter number is another one");
        for bad in ["442079460000", "+44x", "+44/3", "+44/", "+", "+1234567890123456"] {
            assert!(NumberBlock::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn given_hours_over_midnight_when_asked_then_the_night_belongs_to_the_day_it_began_on() {
        let zone = Arc::new(Zone { name: Text::new("x"), before: 0, transitions: vec![(0, 3_600)] });
        let friday_night = When { days: 1 << 4, from: 22 * 60, until: 6 * 60, zone };
        // Friday 2 January 1970, local time is UTC and an hour.
        let at = |day: i64, hour: i64| Wall::from_secs((day - 1) * 86_400 + hour * 3_600);
        assert!(friday_night.contains(at(2, 21)), "22 o'clock there");
        assert!(!friday_night.contains(at(2, 20)));
        assert!(friday_night.contains(at(3, 4)), "Saturday, 5 o'clock there");
        assert!(!friday_night.contains(at(3, 5)) && !friday_night.contains(at(3, 22)));
    }

    #[test]
    fn given_a_zone_when_its_clocks_change_then_each_moment_has_the_offset_of_then() {
        let zone = Zone { name: Text::new("x"), before: 3_600, transitions: vec![(1_000_000, 7_200)] };
        let minute = |secs| zone.local(Wall::from_secs(secs)).1;
        assert_eq!((minute(999_960), minute(1_000_000)), (14 * 60 + 46, 15 * 60 + 46));
        assert_eq!(zone.local(Wall::from_secs(0)), (3, 60), "a Thursday");
    }
}
