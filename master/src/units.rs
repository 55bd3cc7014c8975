//! Numbers → words: spans of time, sizes and moments, as people read them.

use time::OffsetDateTime;

/// A span, milliseconds → `0.4 s`, `12.3 s`, `3 min 04 s`, `1 h 02 min`.
pub fn span(millis: u64) -> String {
    let seconds = millis / 1000;
    match seconds {
        0..60 => format!("{}.{} s", seconds, millis % 1000 / 100),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3600, seconds / 60 % 60),
    }
}

/// A moment on a job's own time axis, microseconds → `0:12.3`, `1:02:03.4`.
pub fn offset(micros: u64) -> String {
    let tenths = micros / 100_000;
    let seconds = tenths / 10;
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    if hours > 0 {
        format!("{hours}:{minutes:02}:{:02}.{}", seconds % 60, tenths % 10)
    } else {
        format!("{minutes}:{:02}.{}", seconds % 60, tenths % 10)
    }
}

/// How long ago `then` was, both Unix milliseconds → `just now`, `5 min ago`, `3 h ago`, `2 days ago`.
pub fn ago(now: u64, then: u64) -> String {
    let seconds = now.saturating_sub(then) / 1000;
    match seconds {
        0..45 => "just now".to_string(),
        45..5400 => format!("{} min ago", (seconds + 30) / 60),
        5400..129_600 => format!("{} h ago", (seconds + 1800) / 3600),
        _ => format!("{} days ago", (seconds + 43_200) / 86_400),
    }
}

/// Bytes → `512 B`, `1.5 KiB`, `12 MiB`.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    // In tenths of a unit, rounded: printing numbers of floating point would be 20 KB of program.
    let (mut unit, mut of) = (0, 1024_u128);
    while u128::from(bytes) >= of * 1024 && unit + 1 < UNITS.len() {
        of *= 1024;
        unit += 1;
    }
    let name = UNITS.get(unit).copied().unwrap_or_default();
    let tenths = (u128::from(bytes) * 20 + of) / (of * 2);
    if tenths < 100 {
        format!("{}.{} {name}", tenths / 10, tenths % 10)
    } else {
        format!("{} {name}", (u128::from(bytes) * 2 + of) / (of * 2))
    }
}

/// A count with thin grouping: `1 234 567`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

/// A count of what has a regular plural: `1 edge`, `1 234 edges`.
pub fn counted(number: u64, one: &str) -> String {
    format!("{} {one}{}", count(number), if number == 1 { "" } else { "s" })
}

/// Unix milliseconds → `2026-11-22T13:24:05Z` (RFC 3339). A moment past the year 9999 reads as the last that can be said.
pub fn moment(millis: u64) -> String {
    const LAST_S: i64 = 253_402_300_799;
    let seconds = i64::try_from(millis / 1000).unwrap_or(LAST_S).min(LAST_S);
    let at = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let (hour, minute, second) = at.to_hms();
    format!("{:04}-{:02}-{:02}T{hour:02}:{minute:02}:{second:02}Z", at.year(), u8::from(at.month()), at.day())
}

/// [`moment`] for people: `2026-11-22 13:24:05 UTC`.
pub fn moment_text(millis: u64) -> String {
    moment(millis).replace('T', " ").replace('Z', " UTC")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_sizes_and_counts_read_well() {
        assert_eq!(span(449), "0.4 s");
        assert_eq!(span(184_000), "3 min 04 s");
        assert_eq!(span(3_725_000), "1 h 02 min");
        assert_eq!(span(100_080_000), "27 h 48 min");
        assert_eq!(offset(12_345_678), "0:12.3");
        assert_eq!(offset(3_723_400_000), "1:02:03.4");
        assert_eq!(ago(1_000_000, 700_000), "5 min ago");
        assert_eq!((counted(1, "edge"), counted(1_200, "edge")), ("1 edge".into(), "1\u{202f}200 edges".into()));
        assert_eq!(ago(0, 700_000), "just now");
        assert_eq!(size(1023), "1023 B");
        assert_eq!(size(1536), "1.5 KiB");
        assert_eq!(size(u64::MAX), "16384 PiB");
        assert_eq!(size(10_188), "9.9 KiB");
        assert_eq!(size(10_189), "10 KiB");
        assert_eq!(size((1 << 20) - 1), "1024 KiB");
        assert_eq!(size(3 << 30), "3.0 GiB");
        assert_eq!(count(1_234_567), "1\u{202f}234\u{202f}567");
        assert_eq!(count(12), "12");
    }

    #[test]
    fn moments_are_utc_and_never_panic() {
        assert_eq!(moment(1_795_354_322_000), "2026-11-22T13:32:02Z");
        assert_eq!(moment_text(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(moment(u64::MAX), "9999-12-31T23:59:59Z");
    }
}
