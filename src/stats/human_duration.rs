//! Durations as a person reads them.

use std::fmt;
use std::time::Duration;

/// Shows a duration with two figures or so: `12 µs`, `1.5 s`, `2 min 5 s`, `3 h 20 min`, `4 d 7 h`.
pub(crate) struct HumanDuration(pub(crate) Duration);

/// The units below a minute, each with its length in nanoseconds.
const SMALL: [(&str, f64); 4] = [("ns", 1e0), ("µs", 1e3), ("ms", 1e6), ("s", 1e9)];

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let (large, small) = match seconds {
            0..60 => return self.below_a_minute(f),
            60..3600 => ((seconds / 60, "min"), (seconds % 60, "s")),
            3600..86_400 => ((seconds / 3600, "h"), (seconds / 60 % 60, "min")),
            _ => ((seconds / 86_400, "d"), (seconds / 3600 % 24, "h")),
        };
        write!(f, "{} {}", large.0, large.1)?;
        match small.0 {
            0 => Ok(()),
            rest => write!(f, " {rest} {}", small.1),
        }
    }
}

impl HumanDuration {
    fn below_a_minute(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos() as f64;
        let fits = |unit: &&(&str, f64)| nanos >= unit.1;
        let (unit, size) = SMALL.iter().rfind(fits).unwrap_or(&SMALL[0]);
        let value = nanos / size;
        // Truncated, not rounded, so that no value becomes 1000 of its unit.
        if value < 10.0 && *size > 1.0 {
            write!(f, "{} {unit}", (value * 10.0).floor() / 10.0)
        } else {
            write!(f, "{} {unit}", value.floor())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size() {
        let nanos = [
            (0, "0 ns"),
            (999, "999 ns"),
            (1_000, "1 µs"),
            (12_999, "12 µs"),
            (1_550_000, "1.5 ms"),
            (999_999_999, "999 ms"),
            (59_999_999_999, "59 s"),
            (60_000_000_000, "1 min"),
            (125_000_000_000, "2 min 5 s"),
            (12_000_000_000_000, "3 h 20 min"),
            (370_800_000_000_000, "4 d 7 h"),
        ];
        for (nanos, text) in nanos {
            assert_eq!(HumanDuration(Duration::from_nanos(nanos)).to_string(), text);
        }
    }
}
