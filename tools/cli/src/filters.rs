//! Which rows a command is about: patterns of keys and values, ranges of sort keys, partitions.

use crate::exit::{Exit, Failed};
use crate::rows::argument_bytes;
use clap::Args;
use pegasus_client::{FullScan, MatchKind, Pattern, Row, SortKeyRange, Table};
use std::ffi::OsString;
use std::ops::Range;

#[derive(Debug, Default, Args)]
#[group(multiple = false)]
pub(crate) struct HashFilter {
    /// Only hash keys that start with this
    #[arg(long, value_name = "TEXT")]
    hash_prefix: Option<OsString>,
    /// Only hash keys that end with this
    #[arg(long, value_name = "TEXT")]
    hash_postfix: Option<OsString>,
    /// Only hash keys that contain this
    #[arg(long, value_name = "TEXT")]
    hash_contains: Option<OsString>,
}

#[derive(Debug, Default, Args)]
#[group(multiple = false)]
pub(crate) struct SortFilter {
    /// Only sort keys that start with this
    #[arg(long, value_name = "TEXT")]
    sort_prefix: Option<OsString>,
    /// Only sort keys that end with this
    #[arg(long, value_name = "TEXT")]
    sort_postfix: Option<OsString>,
    /// Only sort keys that contain this
    #[arg(long, value_name = "TEXT")]
    sort_contains: Option<OsString>,
}

/// Values are compared here, not by the servers.
#[derive(Debug, Default, Args)]
#[group(multiple = false)]
pub(crate) struct ValueFilter {
    /// Only values that start with this
    #[arg(long, value_name = "TEXT")]
    value_prefix: Option<OsString>,
    /// Only values that end with this
    #[arg(long, value_name = "TEXT")]
    value_postfix: Option<OsString>,
    /// Only values that contain this
    #[arg(long, value_name = "TEXT")]
    value_contains: Option<OsString>,
}

/// Sort keys from one to another, of a command that has a `hash_key`.
#[derive(Debug, Default, Args)]
pub(crate) struct Between {
    /// Sort keys from this one on (it included)
    #[arg(long, value_name = "SORT_KEY", requires = "hash_key")]
    from: Option<OsString>,
    /// Sort keys up to this one (it not included)
    #[arg(long, value_name = "SORT_KEY", requires = "hash_key")]
    to: Option<OsString>,
    /// Leave out the row of --from
    #[arg(long, requires = "from")]
    from_exclusive: bool,
    /// Include the row of --to
    #[arg(long, requires = "to")]
    to_inclusive: bool,
}

/// Rows of a whole table.
#[derive(Debug, Default, Args)]
pub(crate) struct Selection {
    #[command(flatten)]
    hash: HashFilter,
    #[command(flatten)]
    sort: SortFilter,
    #[command(flatten)]
    value: ValueFilter,
    /// Only this partition, from 0
    #[arg(long, value_name = "INDEX")]
    pub(crate) partition: Option<u32>,
    /// Patterns are written with C-style escapes: \\ \t \n \r \0 \xHH
    #[arg(long, short)]
    escaped: bool,
}

impl HashFilter {
    pub(crate) fn pattern(&self, escaped: bool) -> anyhow::Result<Option<Pattern>> {
        let all = (&self.hash_prefix, &self.hash_postfix, &self.hash_contains);
        pattern(all, escaped)
    }
}

impl SortFilter {
    pub(crate) fn pattern(&self, escaped: bool) -> anyhow::Result<Option<Pattern>> {
        let all = (&self.sort_prefix, &self.sort_postfix, &self.sort_contains);
        pattern(all, escaped)
    }
}

impl ValueFilter {
    pub(crate) fn pattern(&self, escaped: bool) -> anyhow::Result<Option<Pattern>> {
        let all = (
            &self.value_prefix,
            &self.value_postfix,
            &self.value_contains,
        );
        pattern(all, escaped)
    }
}

impl ValueFilter {
    pub(crate) const fn is_empty(&self) -> bool {
        self.value_prefix.is_none() && self.value_postfix.is_none() && self.value_contains.is_none()
    }
}

impl Between {
    pub(crate) fn range(&self, escaped: bool) -> anyhow::Result<SortKeyRange> {
        let bytes = |key: &Option<OsString>| match key {
            Some(key) => argument_bytes(key, escaped),
            None => Ok(Vec::new()),
        };
        Ok(SortKeyRange {
            start: bytes(&self.from)?.into(),
            start_inclusive: !self.from_exclusive,
            stop: bytes(&self.to)?.into(),
            stop_inclusive: self.to_inclusive,
        })
    }

    pub(crate) const fn is_all(&self) -> bool {
        self.from.is_none() && self.to.is_none()
    }
}

impl Selection {
    /// What the servers select.
    pub(crate) fn scan(&self, no_value: bool) -> anyhow::Result<FullScan> {
        Ok(FullScan {
            hash_filter: self.hash.pattern(self.escaped)?,
            sort_filter: self.sort.pattern(self.escaped)?,
            no_value,
            ..FullScan::default()
        })
    }

    /// What is selected of it here.
    pub(crate) fn value(&self) -> anyhow::Result<Option<Pattern>> {
        self.value.pattern(self.escaped)
    }

    /// # Errors
    /// The table has no such partition.
    pub(crate) fn partitions(&self, table: &Table) -> anyhow::Result<Range<u32>> {
        let Some(index) = self.partition else {
            return Ok(0..table.partition_count());
        };
        check_partition(table, index)?;
        Ok(index..index + 1)
    }

    /// Whether no row is left out.
    pub(crate) fn is_all(&self) -> anyhow::Result<bool> {
        let scan = self.scan(true)?;
        let filters = scan.hash_filter.is_some() || scan.sort_filter.is_some();
        Ok(!filters && self.value()?.is_none() && self.partition.is_none())
    }
}

/// # Errors
/// The table has no such partition.
pub(crate) fn check_partition(table: &Table, index: u32) -> anyhow::Result<()> {
    let (name, count) = (table.name(), table.partition_count());
    if index < count {
        return Ok(());
    }
    let sentence = format!("table {name} has {count} partitions from 0, and no partition {index}");
    Err(Failed::error(Exit::NotFound, sentence))
}

/// At most one of them is given.
fn pattern(
    (prefix, postfix, contains): (&Option<OsString>, &Option<OsString>, &Option<OsString>),
    escaped: bool,
) -> anyhow::Result<Option<Pattern>> {
    let bytes = |text| argument_bytes(text, escaped);
    Ok(match (prefix, postfix, contains) {
        (Some(text), _, _) => Some(Pattern::prefix(bytes(text)?)),
        (_, Some(text), _) => Some(Pattern::postfix(bytes(text)?)),
        (_, _, Some(text)) => Some(Pattern::anywhere(bytes(text)?)),
        (None, None, None) => None,
    })
}

/// Whether a row's value passes a filter on values.
pub(crate) fn passes(row: &Row, filter: Option<&Pattern>) -> bool {
    filter.is_none_or(|filter| matches(&row.value, filter))
}

fn matches(bytes: &[u8], pattern: &Pattern) -> bool {
    let text = &pattern.text[..];
    match pattern.kind {
        _ if text.is_empty() => true,
        MatchKind::Prefix => bytes.starts_with(text),
        MatchKind::Postfix => bytes.ends_with(text),
        MatchKind::Anywhere => bytes.windows(text.len()).any(|window| window == text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_pass_as_keys_do_on_the_servers() {
        for (pattern, yes, no) in [
            (Pattern::prefix("ab"), "abc", "xab"),
            (Pattern::postfix("ab"), "xab", "abc"),
            (Pattern::anywhere("ab"), "xabc", "axb"),
        ] {
            assert!(matches(yes.as_bytes(), &pattern), "{pattern:?}");
            assert!(!matches(no.as_bytes(), &pattern), "{pattern:?}");
        }
        assert!(matches(b"", &Pattern::anywhere("")));
    }
}
