//! Wall-clock times as people and JSON see them: RFC 3339 in UTC, and "how long ago" in words.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

/// A moment in UTC with a resolution of one second; RFC 3339 text in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp {
    /// Seconds since 1970-01-01T00:00:00Z.
    pub unix_s: u64,
}

impl Timestamp {
    /// The present moment.
    pub fn now() -> Self {
        SystemTime::now().into()
    }

    /// How long before `now` it was; zero for a moment in the future (a clock that was set back).
    pub fn age(self, now: Self) -> Duration {
        Duration::from_secs(now.unix_s.saturating_sub(self.unix_s))
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            unix_s: since.as_secs(),
        }
    }
}

impl std::fmt::Display for Timestamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (year, month, day) = civil_from_days((self.unix_s / 86_400) as i64);
        let second = self.unix_s % 86_400;
        let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

impl std::str::FromStr for Timestamp {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("'{text}' is no RFC 3339 time in UTC such as 2026-01-31T12:00:00Z");
        let body = text.strip_suffix('Z').ok_or_else(wrong)?;
        let numbers: Vec<i64> = body
            .split(['-', 'T', ':'])
            .map(|part| part.parse().map_err(|_| wrong()))
            .collect::<Result<_, _>>()?;
        let [year, month, day, hour, minute, second] = numbers[..] else {
            return Err(wrong());
        };
        let days = days_from_civil(year, month, day);
        let unix_s = days * 86_400 + hour * 3_600 + minute * 60 + second;
        let unix_s = u64::try_from(unix_s).map_err(|_| wrong())?;
        Ok(Self { unix_s })
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// A duration for a table cell: its two largest units, `0s` below a second.
pub fn ago(duration: Duration) -> String {
    let s = duration.as_secs();
    match s {
        0..60 => format!("{s}s"),
        60..3_600 => format!("{}m{:02}s", s / 60, s % 60),
        3_600..86_400 => format!("{}h{:02}m", s / 3_600, s / 60 % 60),
        _ => format!("{}d{:02}h", s / 86_400, s / 3_600 % 24),
    }
}

/// Proleptic Gregorian date of a day count since 1970-01-01 (Howard Hinnant, "chrono-compatible low-level date
/// algorithms", public domain).
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

/// The inverse of [`civil_from_days`].
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let shifted_month = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * shifted_month + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_moments_read_as_rfc_3339() {
        for (unix_s, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_000_000_000, "2001-09-09T01:46:40Z"),
            (1_795_633_047, "2026-11-25T18:57:27Z"),
        ] {
            assert_eq!(Timestamp { unix_s }.to_string(), text);
            assert_eq!(text.parse(), Ok(Timestamp { unix_s }));
        }
    }

    #[test]
    fn every_day_of_a_leap_cycle_survives_text() {
        for day in 0..4 * 366 {
            let time = Timestamp {
                unix_s: 1_704_067_200 + day * 86_400 + 86_399,
            };
            assert_eq!(time.to_string().parse(), Ok(time));
        }
    }

    #[test]
    fn durations_show_two_units() {
        for (s, text) in [
            (0, "0s"),
            (59, "59s"),
            (61, "1m01s"),
            (3_660, "1h01m"),
            (90_000, "1d01h"),
        ] {
            assert_eq!(ago(Duration::from_secs(s)), text);
        }
    }
}
