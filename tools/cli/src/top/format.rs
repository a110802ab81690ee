//! Numbers in a few letters.

use std::collections::VecDeque;
use std::time::Duration;

/// A count or a rate in at most five letters: `0`, `0.4`, `12`, `1234`, `12.3k`, `1.2M`.
pub(super) fn short(value: f64) -> String {
    match value {
        value if value <= 0.0 => "0".to_owned(),
        value if value < 0.95 => format!("{value:.1}"),
        value if value < 9_999.5 => format!("{value:.0}"),
        value if value < 99_950.0 => format!("{:.1}k", value / 1e3),
        value if value < 999_500.0 => format!("{:.0}k", value / 1e3),
        value if value < 99_950_000.0 => format!("{:.1}M", value / 1e6),
        value if value < 9_999_500_000.0 => format!("{:.0}M", value / 1e6),
        _ => "many".to_owned(),
    }
}

/// Bytes in at most six letters: `17`, `1.5K`, `64.0M`.
pub(super) fn size(bytes: f64) -> String {
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "for people; the cast saturates"
    )]
    let bytes = bytes as u64;
    crate::output::bytes_short(bytes)
}

/// A latency in at most five letters: `85us`, `1.2ms`, `12ms`, `1.2s`.
pub(super) fn latency_us(us: f64) -> String {
    match us {
        us if us < 999.5 => format!("{us:.0}us"),
        us if us < 9_950.0 => format!("{:.1}ms", us / 1e3),
        us if us < 999_500.0 => format!("{:.0}ms", us / 1e3),
        us if us < 99_950_000.0 => format!("{:.1}s", us / 1e6),
        us => format!("{:.0}s", us / 1e6),
    }
}

/// `12s`, `5m`, `3h`, `40d`.
pub(super) fn duration(time: Duration) -> String {
    match time.as_secs() {
        seconds @ ..100 => format!("{seconds}s"),
        seconds @ ..6_000 => format!("{}m", seconds / 60),
        seconds @ ..172_800 => format!("{}h", seconds / 3_600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

/// `99.5%`, `100%`.
pub(super) fn percent(ratio: f64) -> String {
    match ratio * 100.0 {
        percent if percent >= 99.95 => format!("{percent:.0}%"),
        percent => format!("{percent:.1}%"),
    }
}

/// The newest values as a row of bars, the largest of them full; at most so many letters.
pub(super) fn spark(values: &VecDeque<u64>, letters: usize) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let newest = values.iter().skip(values.len().saturating_sub(letters));
    let largest = newest.clone().copied().max().unwrap_or(0);
    newest
        .map(|value| match largest {
            0 => BARS[0],
            _ => {
                let level = u128::from(*value) * 7 / u128::from(largest);
                BARS[usize::try_from(level).unwrap_or(7).min(7)]
            }
        })
        .collect()
}

/// How full something is: `#####.....`.
pub(super) fn bar(ratio: f64, letters: usize) -> String {
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a picture for people; the cast saturates"
    )]
    let full = (ratio.clamp(0.0, 1.0) * letters as f64).round() as usize;
    let full = full.min(letters);
    format!("{}{}", "█".repeat(full), "░".repeat(letters - full))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_within_their_columns() {
        let mut value = 0.001;
        while value < 1e12 {
            assert!(short(value).len() <= 5, "{value}: {}", short(value));
            assert!(latency_us(value.min(1e8)).len() <= 5, "{value}");
            value *= 1.37;
        }
        let shown = [0.0, 0.44, 12.0, 1_234.0, 12_345.0, 999_900.0].map(short);
        assert_eq!(shown, ["0", "0.4", "12", "1234", "12.3k", "1.0M"]);
        let shown = [85.0, 1_234.0, 45_000.0, 2e6].map(latency_us);
        assert_eq!(shown, ["85us", "1.2ms", "45ms", "2.0s"]);
        assert_eq!(
            (percent(0.995), percent(1.0)),
            ("99.5%".into(), "100%".into())
        );
        assert_eq!(duration(Duration::from_secs(150)), "2m");
    }

    #[test]
    fn bars_follow_the_newest_values() {
        let values: VecDeque<u64> = [100, 0, 50, 100].into();
        assert_eq!(spark(&values, 3), "▁▄█");
        assert_eq!(spark(&VecDeque::from([0, 0]), 9), "▁▁");
        assert_eq!(spark(&VecDeque::from([u64::MAX]), 9), "█");
        assert_eq!(bar(0.5, 4), "██░░");
        assert_eq!(bar(f64::NAN, 2), "░░");
        assert_eq!(bar(7.0, 2), "██");
    }
}
