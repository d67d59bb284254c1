//! What of a relay's notes is said aloud: an absence once, with its reason, and its end once, with how long it was. The
//! attempts in between are for whoever looks closer.

use super::terms::Note;
use signalbox_base::{EventSeq, Mono, Text};
use std::time::Duration;
use tracing::Level;

/// What was said.
#[derive(Debug, Default)]
pub(super) struct Telling {
    /// Since when the bus is away, and the reason that was said last.
    away: Option<(Mono, Text)>,
    /// Since when the broker does not take an event.
    refused: Option<(Mono, EventSeq)>,
}

impl Telling {
    /// How loud a note is to be said, and how.
    pub(super) fn say(&mut self, now: Mono, note: &Note) -> (Level, String) {
        match note {
            Note::Away(why) => {
                (self.away(now, why), format!("the bus is away: {why}; events wait in the journal"))
            }
            Note::Flowing(_) => match self.away.take() {
                Some((since, _)) => {
                    (Level::INFO, format!("{note}; the bus was away for {}", words(now.since(since))))
                }
                // Only to try again what was refused.
                None if self.refused.is_some() => (Level::DEBUG, note.to_string()),
                None => (Level::INFO, note.to_string()),
            },
            Note::Refused(seq, _) => {
                let again = self.refused.is_some_and(|(_, known)| known == *seq);
                self.refused.get_or_insert((now, *seq)).1 = *seq;
                (if again { Level::DEBUG } else { Level::WARN }, note.to_string())
            }
            Note::Unsent(_) => (Level::WARN, note.to_string()),
            Note::Overrun(..) | Note::Missing { .. } | Note::Diverged(_) => (Level::ERROR, note.to_string()),
        }
    }

    /// Nothing is refused now: what is to be said of it, if something was.
    pub(super) fn taken(&mut self, now: Mono) -> Option<(Level, String)> {
        let (since, seq) = self.refused.take()?;
        Some((Level::INFO, format!("the bus takes event {seq} after {}", words(now.since(since)))))
    }

    fn away(&mut self, now: Mono, why: &Text) -> Level {
        let Some((_, said)) = &mut self.away else {
            self.away = Some((now, why.clone()));
            return Level::WARN;
        };
        // That it is still not reached is no news; that it refuses us, or is not as it must be, is.
        if why.starts_with("not reached") || said == why {
            return Level::DEBUG;
        }
        *said = why.clone();
        Level::WARN
    }
}

/// `850 ms`, `42 s`, `3 min 5 s`, `2 h 10 min`.
fn words(time: Duration) -> String {
    match time.as_secs() {
        0 => format!("{} ms", time.as_millis()),
        seconds @ 1..60 => format!("{seconds} s"),
        seconds @ 60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        seconds => format!("{} h {} min", seconds / 3_600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publisher::Refusal;

    fn at(seconds: u64) -> Mono {
        Mono(1).plus(Duration::from_secs(seconds))
    }

    #[test]
    fn an_absence_is_said_once_and_its_end_with_how_long_it_was() {
        let mut telling = Telling::default();
        let mut say = |seconds, note: Note| telling.say(at(seconds), &note);
        assert_eq!(say(0, Note::Flowing(EventSeq(0))).0, Level::INFO);
        let (level, text) = say(10, Note::Away("the server closed the connection".into()));
        assert_eq!(level, Level::WARN);
        assert!(text.contains("the server closed the connection"), "{text}");
        for second in 11..100 {
            assert_eq!(say(second, Note::Away("not reached: connection refused".into())).0, Level::DEBUG);
        }
        let (level, text) = say(100, Note::Flowing(EventSeq(7)));
        assert_eq!(
            (level, &*text),
            (Level::INFO, "connected; going on after event 7; the bus was away for 1 min 30 s")
        );
        assert_eq!(say(101, Note::Away("not reached: timeout".into())).0, Level::WARN, "another absence");
    }

    #[test]
    fn a_reason_that_a_person_must_mend_is_said_whenever_it_is_another() {
        let mut telling = Telling::default();
        let mut say = |why: &str| telling.say(at(1), &Note::Away(why.into())).0;
        assert_eq!(say("not reached: connection refused"), Level::WARN);
        assert_eq!(say("refused: authorization violation"), Level::WARN);
        assert_eq!(say("refused: authorization violation"), Level::DEBUG);
        assert_eq!(say("not reached: connection refused"), Level::DEBUG);
        assert_eq!(say("there is no stream SIGNALBOX_CALL"), Level::WARN);
    }

    #[test]
    fn a_refused_event_is_said_once_however_often_it_is_tried_and_when_it_is_taken() {
        let mut telling = Telling::default();
        let refused = Note::Refused(EventSeq(5), Refusal::Full);
        assert_eq!(telling.say(at(0), &refused).0, Level::WARN);
        for second in 1..60 {
            assert_eq!(telling.say(at(second), &Note::Flowing(EventSeq(4))).0, Level::DEBUG);
            assert_eq!(telling.say(at(second), &refused).0, Level::DEBUG);
        }
        assert_eq!(telling.taken(at(7_260)).unwrap().1, "the bus takes event 5 after 2 h 1 min");
        assert_eq!(telling.taken(at(7_261)), None);
    }
}
