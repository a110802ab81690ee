//! Text into HTML, and numbers into text. Whatever comes from outside (names, messages, paths) passes [`escape`].

use std::borrow::Cow;
use std::fmt::Display;

/// Text that is safe between tags and within quoted attributes.
pub(super) fn escape(text: &str) -> Cow<'_, str> {
    if !text.contains(['&', '<', '>', '"', '\'']) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    Cow::Owned(safe)
}

/// `<tag class="class">text</tag>`; the text is escaped, tag and class are ours.
pub(super) fn element(tag: &str, class: &str, text: impl Display) -> String {
    let text = text.to_string();
    format!("<{tag}{}>{}</{tag}>", class_of(class), escape(&text))
}

/// The same around what is HTML already.
pub(super) fn wrap(tag: &str, class: &str, html: impl Display) -> String {
    format!("<{tag}{}>{html}</{tag}>", class_of(class))
}

fn class_of(class: &str) -> String {
    if class.is_empty() {
        String::new()
    } else {
        format!(" class=\"{class}\"")
    }
}

/// A table of text. The first `names` columns are left-aligned, the others numbers.
pub(super) fn table(names: usize, heading: &[&str], rows: &[Vec<String>]) -> String {
    let align = |index: usize| if index < names { "" } else { "n" };
    let cells = |tag: &str, cells: Vec<&str>| -> String {
        let cell = |(index, text)| element(tag, align(index), text);
        wrap(
            "tr",
            "",
            cells.into_iter().enumerate().map(cell).collect::<String>(),
        )
    };
    let head = wrap("thead", "", cells("th", heading.to_vec()));
    let body: String = rows
        .iter()
        .map(|row| cells("td", row.iter().map(String::as_str).collect()))
        .collect();
    wrap(
        "div",
        "scroll",
        wrap("table", "", format!("{head}{}", wrap("tbody", "", body))),
    )
}

/// A section of the page with its heading.
pub(super) fn section(title: &str, note: &str, html: impl Display) -> String {
    let note = if note.is_empty() {
        String::new()
    } else {
        element("p", "note", note)
    };
    wrap(
        "section",
        "",
        format!("{}{note}{html}", element("h2", "", title)),
    )
}

/// Two columns: what, and how much of it.
pub(super) fn facts(title: &str, rows: &[(String, String)]) -> String {
    let row = |(name, value): &(String, String)| {
        wrap(
            "div",
            "fact",
            format!("{}{}", element("dt", "", name), element("dd", "", value)),
        )
    };
    wrap(
        "div",
        "card",
        format!(
            "{}{}",
            element("h3", "", title),
            wrap("dl", "", rows.iter().map(row).collect::<String>())
        ),
    )
}

/// Three significant digits with a unit: `61.2 µs`, `4.50 ms`, `1.20 s`.
pub(super) fn time(microseconds: f64) -> String {
    let (value, unit) = if microseconds < 1e3 {
        (microseconds, "µs")
    } else if microseconds < 1e6 {
        (microseconds / 1e3, "ms")
    } else {
        (microseconds / 1e6, "s")
    };
    format!("{} {unit}", three_digits(value))
}

/// Without digits that do not matter, for axes: `100 µs`, `2 ms`.
pub(super) fn short_time(microseconds: f64) -> String {
    let text = time(microseconds);
    match text.split_once(' ') {
        Some((number, unit)) => format!("{} {unit}", trim_zeros(number)),
        None => text,
    }
}

/// `950`, `18.9k`, `1.20M`.
pub(super) fn short_count(count: f64) -> String {
    let (value, unit) = match count.abs() {
        size if size >= 1e9 => (count / 1e9, "G"),
        size if size >= 1e6 => (count / 1e6, "M"),
        size if size >= 1e3 => (count / 1e3, "k"),
        _ => (count, ""),
    };
    format!("{}{unit}", trim_zeros(&three_digits(value)))
}

/// With separators: `18,912`.
pub(super) fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Operations a second.
pub(super) fn rate(per_second: f64) -> String {
    if per_second < 100.0 {
        return three_digits(per_second);
    }
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a positive rate, rounded for people; the cast saturates"
    )]
    let whole = per_second.round() as u64;
    count(whole)
}

fn three_digits(value: f64) -> String {
    let digits = match value.abs() {
        size if size >= 99.95 => 0,
        size if size >= 9.995 => 1,
        _ => 2,
    };
    format!("{value:.digits$}")
}

fn trim_zeros(number: &str) -> &str {
    if number.contains('.') {
        number.trim_end_matches('0').trim_end_matches('.')
    } else {
        number
    }
}

/// Milliseconds since 1970 as `2026-11-22 14:05:43 UTC`.
pub(super) fn date(unix_ms: u64) -> String {
    let seconds = unix_ms / 1000;
    let (hours, minutes) = (seconds / 3600 % 24, seconds / 60 % 60);
    let (year, month, day) = civil(seconds / 86_400);
    format!(
        "{year}-{month:02}-{day:02} {hours:02}:{minutes:02}:{:02} UTC",
        seconds % 60
    )
}

/// Year, month and day of a day after 1970-01-01, in the Gregorian calendar: years are counted from March, so that the
/// leap day is a year's last.
fn civil(days: u64) -> (u64, u64, u64) {
    const DAYS_OF_400_YEARS: u64 = 146_097;
    // Days from 0000-03-01 to 1970-01-01.
    let days = days + 719_468;
    let (era, day_of_era) = (days / DAYS_OF_400_YEARS, days % DAYS_OF_400_YEARS);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_leave_its_element_or_attribute() {
        assert_eq!(
            escape("<b a='1' c=\"2\">&"),
            "&lt;b a=&#39;1&#39; c=&quot;2&quot;&gt;&amp;"
        );
        assert_eq!(
            element("td", "n", "</td><script>"),
            "<td class=\"n\">&lt;/td&gt;&lt;script&gt;</td>"
        );
        assert!(matches!(escape("plain"), Cow::Borrowed("plain")));
    }

    #[test]
    fn figures_have_three_digits_and_a_unit() {
        assert_eq!(time(61.23), "61.2 µs");
        assert_eq!(time(4_500.0), "4.50 ms");
        assert_eq!(time(999.96), "1000 µs");
        assert_eq!(time(1_200_000.0), "1.20 s");
        assert_eq!(short_time(100.0), "100 µs");
        assert_eq!(short_time(2_000.0), "2 ms");
        assert_eq!(short_count(18_912.0), "18.9k");
        assert_eq!(short_count(1_000_000.0), "1M");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(count(12), "12");
        assert_eq!(rate(18_912.4), "18,912");
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(date(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(date(1_709_164_799_000), "2024-02-28 23:59:59 UTC");
        assert_eq!(date(1_709_164_800_000), "2024-02-29 00:00:00 UTC");
        assert_eq!(date(1_795_356_343_765), "2026-11-22 14:05:43 UTC");
        assert_eq!(date(4_107_542_400_000), "2100-03-01 00:00:00 UTC");
    }
}
