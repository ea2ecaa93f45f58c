//! The only place that reads a clock of the operating system. Wall time is for people who read
//! logs; nothing is ever decided by it.

use std::fmt;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

const MILLIS_PER_DAY: u64 = 86_400_000;

/// The present, for measuring how long something took.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "the one door to the monotonic clock"
)]
pub fn monotonic() -> Instant {
    Instant::now()
}

/// The present, for stamps. A clock set before 1970 reads as 1970.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the one door to the wall clock")]
pub fn stamp() -> Stamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    Stamp(since.map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX)))
}

/// Milliseconds since 1970, shown as RFC 3339 in UTC with three decimals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp(pub u64);

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = civil(self.0 / MILLIS_PER_DAY);
        let millis = self.0 % MILLIS_PER_DAY;
        let (hour, minute) = (millis / 3_600_000, millis / 60_000 % 60);
        let (second, milli) = (millis / 1000 % 60, millis % 1000);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z"
        )
    }
}

/// Year, month and day of a day counted from 1970-01-01. Years begin in March here, so that the
/// leap day is a year's last; the months' lengths then follow one straight line.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let leaps = day_of_era / 1_460 + day_of_era / 146_096;
    let year_of_era = (day_of_era + day_of_era / 36_524 - leaps) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_are_rfc_3339_in_utc_with_milliseconds() {
        let rows = [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_868_800_000, "2000-03-01T00:00:00.000Z"),
            (1_000_000_000_001, "2001-09-09T01:46:40.001Z"),
            (1_709_210_096_789, "2024-02-29T12:34:56.789Z"),
            (1_735_689_599_000, "2024-12-31T23:59:59.000Z"),
            (1_735_689_600_000, "2025-01-01T00:00:00.000Z"),
            (4_107_542_399_000, "2100-02-28T23:59:59.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
        ];
        for (millis, text) in rows {
            assert_eq!(Stamp(millis).to_string(), text, "{millis}");
        }
    }

    #[test]
    fn consecutive_days_have_consecutive_dates_for_four_centuries() {
        let mut before = civil(0);
        for day in 1..146_097 * 2 {
            let now = civil(day);
            let follows = now == (before.0, before.1, before.2 + 1)
                || now == (before.0, before.1 + 1, 1)
                || now == (before.0 + 1, 1, 1) && before.1 == 12;
            assert!(follows, "{before:?} then {now:?}");
            before = now;
        }
        assert_eq!(civil(146_097), (2370, 1, 1));
    }
}
