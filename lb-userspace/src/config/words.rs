//! Small grammars of config values: durations, port ranges, names, and the nearest known word.

use std::time::Duration;

use super::PortRange;

/// Longest name of a service or backend, in bytes.
pub(super) const MAX_NAME_BYTES: usize = 63;

/// A count with its noun: `1 error`, `2 errors`.
pub fn many(count: usize, noun: &str) -> String {
    let end = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{end}")
}

/// Parses `"500ms"`, `"10s"`, `"5m"`, `"1h"`, `"2d"`.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let number: u64 = number.parse().ok()?;
    match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => number.checked_mul(60).map(Duration::from_secs),
        "h" => number.checked_mul(3_600).map(Duration::from_secs),
        "d" => number.checked_mul(86_400).map(Duration::from_secs),
        _ => None,
    }
}

/// As [`duration`] reads it: the largest unit that divides it.
pub(super) fn show_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if duration.subsec_millis() != 0 || seconds == 0 {
        return format!("{}ms", duration.as_millis());
    }
    for (unit, size) in [("d", 86_400), ("h", 3_600), ("m", 60)] {
        if seconds.is_multiple_of(size) {
            return format!("{}{unit}", seconds / size);
        }
    }
    format!("{seconds}s")
}

/// Parses `"LOW-HIGH"`.
pub(super) fn port_range(text: &str) -> Option<PortRange> {
    let (min, max) = text.split_once('-')?;
    let plain = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !plain(min) || !plain(max) {
        return None;
    }
    let (min, max) = (min.parse().ok()?, max.parse().ok()?);
    (min > 0 && min <= max).then_some(PortRange { min, max })
}

/// Whose name it is: the character sets differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NameOf {
    Service,
    Backend,
}

/// The first character that a name cannot hold.
pub(super) fn bad_name_char(text: &str, of: NameOf) -> Option<char> {
    text.chars().find(|c| match c {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '_' | '-' => false,
        ':' | '[' | ']' => of == NameOf::Service,
        _ => true,
    })
}

/// The known word that was probably meant.
pub fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let longest = known.iter().map(|k| k.len()).max().unwrap_or(0);
    if word.len() > longest.saturating_mul(2) {
        return None;
    }
    let flat = |word: &str| word.to_lowercase().replace('-', "_");
    let word = flat(word);
    let scored = known.iter().map(|known| (distance(&word, &flat(known)), *known));
    let (score, best) = scored.min_by_key(|(score, _)| *score)?;
    (score <= (best.len() / 3).max(1)).then_some(best)
}

/// The names there are, for who asked for one that is not among them; the nearest one is asked about.
pub fn names_there(asked: &str, names: &[&str]) -> String {
    const SHOWN: usize = 12;
    if names.is_empty() {
        return "none".to_owned();
    }
    let mut text = names.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN {
        text = format!("{text} and {} more", names.len() - SHOWN);
    }
    // Any two names of two letters are near each other.
    if let Some(near) = nearest(asked, names).filter(|_| asked.len() > 2) {
        text = format!("{text}; did you mean {near}?");
    }
    text
}

/// Edits from one word to another, a swap of neighbours counted as one (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, cb) in b.iter().enumerate() {
            let mut best = (last[j] + usize::from(ca != cb)).min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *ca == b[j - 1] && a[i - 1] == *cb {
                best = best.min(before[j - 1] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_have_a_whole_number_and_a_unit() {
        assert_eq!(duration("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(duration("2d"), Some(Duration::from_secs(172_800)));
        for bad in [
            "",
            "10",
            "s",
            "1.5s",
            "-1s",
            "1 s",
            "10S",
            "99999999999999999999s",
            "18446744073709551615h",
        ] {
            assert_eq!(duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn port_ranges_are_low_to_high_from_1() {
        assert_eq!(port_range("1-65535"), Some(PortRange { min: 1, max: 65_535 }));
        assert_eq!(port_range("80-80"), Some(PortRange { min: 80, max: 80 }));
        for bad in ["", "-", "80", "0-80", "90-80", "1-65536", "+1-80", "1-2-3", " 1-2"] {
            assert_eq!(port_range(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_near_word_is_suggested_and_a_far_one_is_not() {
        let known = ["internal_port", "port", "protocol", "backend"];
        assert_eq!(nearest("internal-port", &known), Some("internal_port"));
        assert_eq!(nearest("backends", &known), Some("backend"));
        assert_eq!(nearest("prot", &known), Some("port"));
        assert_eq!(nearest("colour", &known), None);
        assert_eq!(nearest("web-frontent", &["Web-frontend", "dns"]), Some("Web-frontend"));
    }

    #[test]
    fn the_names_there_are_end_with_the_nearest_one_and_stay_short() {
        assert_eq!(names_there("wep", &["web", "dns"]), "web, dns; did you mean web?");
        assert_eq!(names_there("h9", &["h0", "h1"]), "h0, h1");
        assert_eq!(names_there("a", &[]), "none");
        let many: Vec<String> = (0..100).map(|index| format!("backend{index:02}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let text = names_there("backend555", &many);
        assert!(
            text.ends_with("backend11 and 88 more; did you mean backend55?"),
            "{text}"
        );
    }

    proptest! {
        #[test]
        fn a_shown_duration_reads_back(ms in 0_u64..10_000_000_000) {
            let d = Duration::from_millis(ms);
            prop_assert_eq!(duration(&show_duration(d)), Some(d));
        }

        #[test]
        fn no_word_makes_the_grammars_panic(text in ".*") {
            let _ = (duration(&text), port_range(&text), nearest(&text, &["port", "vip"]));
        }
    }
}
