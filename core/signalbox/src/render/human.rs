//! Times and durations as people read them.

use jiff::{Timestamp, tz::TimeZone};
use signalbox_base::Wall;
use std::time::Duration;

/// Prints wall times in one zone.
#[derive(Clone, Debug)]
pub struct Clock {
    zone: TimeZone,
}

impl Clock {
    /// Local time, or UTC.
    #[must_use]
    pub fn new(utc: bool) -> Self {
        Self { zone: if utc { TimeZone::UTC } else { TimeZone::system() } }
    }

    /// `14:03:07.412`
    #[must_use]
    pub fn time_ms(&self, at: Wall) -> String {
        self.format(at, "%H:%M:%S%.3f")
    }

    /// `14:03:07` today (by `now`), with the date otherwise.
    #[must_use]
    pub fn time(&self, at: Wall, now: Wall) -> String {
        let same_day = self.format(at, "%F") == self.format(now, "%F");
        self.format(at, if same_day { "%H:%M:%S" } else { "%F %H:%M:%S" })
    }

    fn format(&self, at: Wall, format: &str) -> String {
        match Timestamp::from_microsecond(at.0) {
            Ok(stamp) => stamp.to_zoned(self.zone.clone()).strftime(format).to_string(),
            Err(_) => at.to_string(),
        }
    }
}

/// `708 ms`, `32.9 s`, `5 min 10 s`, `3 h 12 min`, `2 d 4 h`.
#[must_use]
pub fn duration(d: Duration) -> String {
    let ms = d.as_millis();
    let secs = d.as_secs();
    match secs {
        0 => format!("{ms} ms"),
        1..60 => format!("{:.1} s", d.as_secs_f64()),
        60..3600 => format!("{} min {} s", secs / 60, secs % 60),
        3600..86_400 => format!("{} h {} min", secs / 3600, secs / 60 % 60),
        _ => format!("{} d {} h", secs / 86_400, secs / 3600 % 24),
    }
}

/// The same from milliseconds, empty for none.
#[must_use]
pub fn span_ms(ms: Option<i64>) -> String {
    ms.and_then(|ms| u64::try_from(ms).ok()).map(|ms| duration(Duration::from_millis(ms))).unwrap_or_default()
}

/// `12 s ago`, or `in 3 min 2 s`.
#[must_use]
pub fn since(at: Wall, now: Wall) -> String {
    if at > now {
        format!("in {}", duration(at.since(now)))
    } else {
        format!("{} ago", duration(now.since(at)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_two_units_at_most() {
        let cases = [
            (708, "708 ms"),
            (32_900, "32.9 s"),
            (310_000, "5 min 10 s"),
            (11_520_000, "3 h 12 min"),
            (187_200_000, "2 d 4 h"),
        ];
        for (ms, text) in cases {
            assert_eq!(duration(Duration::from_millis(ms)), text);
        }
    }

    #[test]
    fn times_in_utc() {
        let at = Wall::parse_rfc3339("2026-11-21T14:03:07.412345Z").unwrap();
        let clock = Clock::new(true);
        assert_eq!(clock.time_ms(at), "14:03:07.412");
        assert_eq!(clock.time(at, at), "14:03:07");
        assert_eq!(clock.time(at, at.plus(Duration::from_secs(86_400))), "2026-11-21 14:03:07");
    }
}
