//! Calendar dates of certificates and messages, without time zones or leap seconds.
//!
//! The civil calendar is computed with years that begin in March, so that the leap day comes last.

use crate::model::UnixTime;

const DAY: i64 = 86_400;
const DAYS_IN_400_YEARS: i64 = 146_097;

/// A UTC date and time as written: month and day from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Civil {
    pub(super) year: i64,
    pub(super) month: i64,
    pub(super) day: i64,
    pub(super) hour: i64,
    pub(super) minute: i64,
    pub(super) second: i64,
}

impl Civil {
    /// The point in time; nothing when the date does not exist.
    pub(super) fn unix(self) -> Option<UnixTime> {
        let in_range = (0..24).contains(&self.hour)
            && (0..60).contains(&self.minute)
            && (0..60).contains(&self.second)
            && (1..=12).contains(&self.month)
            && (0..=9999).contains(&self.year);
        if !in_range {
            return None;
        }
        let year = if self.month < 3 { self.year - 1 } else { self.year };
        let month = (self.month + 9) % 12;
        let year_of_era = year.rem_euclid(400);
        let days = year.div_euclid(400) * DAYS_IN_400_YEARS + year_of_era * 365 + year_of_era / 4
            - year_of_era / 100
            + (month * 153 + 2) / 5
            + self.day
            - 1
            - 719_468;
        let seconds = days * DAY + self.hour * 3600 + self.minute * 60 + self.second;
        // A day that the month lacks comes back as another date.
        (Self::of_seconds(seconds) == self).then(|| UnixTime::from_seconds(seconds))
    }

    /// The date of a number of seconds since 1970.
    fn of_seconds(seconds: i64) -> Self {
        let days = seconds.div_euclid(DAY) + 719_468;
        let second_of_day = seconds.rem_euclid(DAY);
        let day_of_era = days.rem_euclid(DAYS_IN_400_YEARS);
        let year_of_era =
            (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let march_month = (5 * day_of_year + 2) / 153;
        let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
        let year = days.div_euclid(DAYS_IN_400_YEARS) * 400 + year_of_era;
        Self {
            year: if month < 3 { year + 1 } else { year },
            month,
            day: day_of_year - (153 * march_month + 2) / 5 + 1,
            hour: second_of_day / 3600,
            minute: second_of_day / 60 % 60,
            second: second_of_day % 60,
        }
    }
}

/// `2026-11-22 15:42:00 UTC`, for messages.
pub(super) fn shown(time: UnixTime) -> String {
    let Civil { year, month, day, hour, minute, second } = Civil::of_seconds(time.seconds());
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_seconds_agree_both_ways() {
        for (seconds, text) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (-1, "1969-12-31 23:59:59 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (4_102_444_799, "2099-12-31 23:59:59 UTC"),
            (4_107_542_400, "2100-03-01 00:00:00 UTC"),
        ] {
            assert_eq!(shown(UnixTime::from_seconds(seconds)), text);
            let civil = Civil::of_seconds(seconds);
            assert_eq!(civil.unix(), Some(UnixTime::from_seconds(seconds)));
        }
    }

    #[test]
    fn a_date_that_does_not_exist_is_refused() {
        let good = Civil { year: 2026, month: 2, day: 28, hour: 0, minute: 0, second: 0 };
        assert!(good.unix().is_some());
        for bad in [
            Civil { day: 29, ..good },
            Civil { day: 0, ..good },
            Civil { month: 13, ..good },
            Civil { month: 0, ..good },
            Civil { hour: 24, ..good },
            Civil { second: 60, ..good },
        ] {
            assert_eq!(bad.unix(), None, "{bad:?}");
        }
    }
}
