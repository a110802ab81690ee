//! One line of a file becomes one row: which columns or fields hold the keys, the value and the time to live.

use crate::text;
use anyhow::{Context as _, bail, ensure};
use clap::ValueEnum;
use serde_json::Value;

/// How rows are written in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Columns separated by tabs, raw bytes, no escapes
    Tsv,
    /// One JSON object on each line; binary as {"b64": ".."}
    Jsonl,
}

/// A row to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) hash_key: Vec<u8>,
    pub(crate) sort_key: Vec<u8>,
    pub(crate) value: Vec<u8>,
    /// Seconds; 0 = never expires.
    pub(crate) ttl_seconds: u32,
}

/// Which column is what, as it was asked for: numbers from 1, or names.
#[derive(Clone, Debug)]
pub(crate) struct Selection {
    pub(crate) hash_key: Option<String>,
    pub(crate) sort_key: Option<String>,
    pub(crate) value: Option<String>,
    pub(crate) ttl: Option<String>,
}

/// Turns lines into rows.
#[derive(Clone, Debug)]
pub(crate) enum Parser {
    Tsv(Columns),
    Jsonl(Fields),
}

/// Column indexes from 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Columns {
    hash_key: usize,
    sort_key: Option<usize>,
    value: usize,
    ttl: Option<usize>,
}

/// Field names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fields {
    hash_key: String,
    sort_key: String,
    value: String,
    ttl: String,
    /// A field named on the command line has to be there; the default names may be missing (not the hash key, not the value).
    sort_key_required: bool,
}

impl Parser {
    /// `header` is the first line of a TSV file that has one; names are looked up in it.
    pub(crate) fn new(
        format: Format,
        selection: &Selection,
        header: Option<&[u8]>,
    ) -> anyhow::Result<Self> {
        match format {
            Format::Tsv => Columns::new(selection, header).map(Self::Tsv),
            Format::Jsonl => Ok(Self::Jsonl(Fields::new(selection))),
        }
    }

    /// The row of a line (without its newline), or a sentence on what is wrong with it.
    pub(crate) fn parse(&self, line: &[u8]) -> anyhow::Result<Row> {
        let row = match self {
            Self::Tsv(columns) => columns.parse(line),
            Self::Jsonl(fields) => fields.parse(line),
        }?;
        ensure!(
            row.hash_key.len() < HASH_KEY_BYTES_MAX,
            "a hash key of {} bytes is too long, the limit is {}",
            row.hash_key.len(),
            HASH_KEY_BYTES_MAX - 1
        );
        Ok(row)
    }
}

/// The length field of a key has two bytes, and its highest value is taken (Apache Pegasus key encoding).
const HASH_KEY_BYTES_MAX: usize = 0xFFFF;

impl Columns {
    fn new(selection: &Selection, header: Option<&[u8]>) -> anyhow::Result<Self> {
        let names: Option<Vec<&[u8]>> = header.map(|line| split(line).collect());
        let find = |option: &str, wanted: &str| find_column(option, wanted, names.as_deref());
        let optional = |option: &str, wanted: &Option<String>| {
            wanted.as_deref().map(|w| find(option, w)).transpose()
        };
        let columns = Self {
            hash_key: find("--hash-key", selection.hash_key.as_deref().unwrap_or("1"))?,
            sort_key: optional("--sort-key", &selection.sort_key)?,
            value: match selection.value.as_deref() {
                Some(wanted) => find("--value", wanted)?,
                None => bail!(
                    "--value is needed: the number or the name of the column that holds the value"
                ),
            },
            ttl: optional("--ttl", &selection.ttl)?,
        };
        Ok(columns)
    }

    fn parse(&self, line: &[u8]) -> anyhow::Result<Row> {
        let cells: Vec<&[u8]> = split(line).collect();
        let cell = |index: usize| {
            cells.get(index).copied().with_context(|| {
                format!(
                    "column {} is needed, the line has {}",
                    index + 1,
                    cells.len()
                )
            })
        };
        Ok(Row {
            hash_key: cell(self.hash_key)?.to_vec(),
            sort_key: self
                .sort_key
                .map(cell)
                .transpose()?
                .unwrap_or_default()
                .to_vec(),
            value: cell(self.value)?.to_vec(),
            ttl_seconds: match self.ttl {
                Some(index) => parse_ttl(cell(index)?)?,
                None => 0,
            },
        })
    }
}

fn split(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|&b| b == b'\t')
}

/// A number counts from 1; anything else is a name in the header.
fn find_column(option: &str, wanted: &str, names: Option<&[&[u8]]>) -> anyhow::Result<usize> {
    if let Some(index) = names.and_then(|names| names.iter().position(|n| *n == wanted.as_bytes()))
    {
        return Ok(index);
    }
    match (wanted.parse::<usize>(), names) {
        (Ok(0), _) => bail!("{option} 0: columns count from 1"),
        (Ok(number), _) => Ok(number - 1),
        (Err(_), None) => bail!("{option} {wanted}: columns have names only with --header"),
        (Err(_), Some(names)) => {
            let known: Vec<String> = names.iter().map(|n| text::escape_short(n, 40)).collect();
            bail!(
                "{option} {wanted}: no such column in the header ({})",
                known.join(", ")
            )
        }
    }
}

/// Seconds; an empty cell means no expiry.
fn parse_ttl(cell: &[u8]) -> anyhow::Result<u32> {
    if cell.is_empty() {
        return Ok(0);
    }
    std::str::from_utf8(cell)
        .ok()
        .and_then(|t| t.parse().ok())
        .with_context(|| {
            format!(
                "the time to live '{}' is not a number of seconds",
                text::escape_short(cell, 20)
            )
        })
}

impl Fields {
    fn new(selection: &Selection) -> Self {
        let name = |wanted: &Option<String>, default: &str| {
            wanted.clone().unwrap_or_else(|| default.to_owned())
        };
        Self {
            hash_key: name(&selection.hash_key, "hash_key"),
            sort_key: name(&selection.sort_key, "sort_key"),
            value: name(&selection.value, "value"),
            ttl: name(&selection.ttl, "ttl"),
            sort_key_required: selection.sort_key.is_some(),
        }
    }

    fn parse(&self, line: &[u8]) -> anyhow::Result<Row> {
        let object = match serde_json::from_slice(line) {
            Ok(Value::Object(object)) => object,
            Ok(_) => bail!("not a JSON object"),
            Err(error) => bail!("not a JSON object, from column {} on", error.column()),
        };
        let bytes = |name: &str| match object.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(found) => text::from_json(found)
                .map(Some)
                .with_context(|| format!("field {name} is neither text nor {{\"b64\": \"..\"}}")),
        };
        let sort_key = bytes(&self.sort_key)?;
        ensure!(
            sort_key.is_some() || !self.sort_key_required,
            "field {} is missing",
            self.sort_key
        );
        Ok(Row {
            hash_key: bytes(&self.hash_key)?
                .with_context(|| format!("field {} is missing", self.hash_key))?,
            sort_key: sort_key.unwrap_or_default(),
            value: bytes(&self.value)?
                .with_context(|| format!("field {} is missing", self.value))?,
            ttl_seconds: parse_ttl(&bytes(&self.ttl)?.unwrap_or_default())?,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn selection(
        hash_key: &str,
        sort_key: Option<&str>,
        value: &str,
        ttl: Option<&str>,
    ) -> Selection {
        Selection {
            hash_key: Some(hash_key.into()),
            sort_key: sort_key.map(Into::into),
            value: Some(value.into()),
            ttl: ttl.map(Into::into),
        }
    }

    fn named_by_default() -> Selection {
        Selection {
            hash_key: None,
            sort_key: None,
            value: None,
            ttl: None,
        }
    }

    #[test]
    fn tsv_columns_are_found_by_number_and_kept_as_bytes() {
        let parser = Parser::new(
            Format::Tsv,
            &selection("2", Some("1"), "3", Some("4")),
            None,
        )
        .unwrap();
        let row = parser.parse(b"sort\tha\xffsh\tval\\tue\r\t60").unwrap();
        assert_eq!(row.hash_key, b"ha\xffsh");
        assert_eq!(row.sort_key, b"sort");
        assert_eq!(row.value, b"val\\tue\r");
        assert_eq!(row.ttl_seconds, 60);
    }

    #[test]
    fn tsv_columns_are_found_by_name_in_the_header() {
        let wanted = selection("package", Some("field"), "value", None);
        let parser = Parser::new(Format::Tsv, &wanted, Some(b"value\tpackage\tfield")).unwrap();
        let row = parser.parse(b"1.0\tbash\tVersion").unwrap();
        assert_eq!(
            (row.hash_key, row.sort_key, row.value),
            (b"bash".to_vec(), b"Version".to_vec(), b"1.0".to_vec())
        );
        assert_eq!(row.ttl_seconds, 0);
    }

    #[test]
    fn a_name_without_a_header_or_not_in_it_is_refused_with_what_is_there() {
        let wanted = selection("package", None, "2", None);
        let missing = Parser::new(Format::Tsv, &wanted, None)
            .unwrap_err()
            .to_string();
        assert!(missing.contains("--header"), "{missing}");
        let unknown = Parser::new(Format::Tsv, &wanted, Some(b"a\tb"))
            .unwrap_err()
            .to_string();
        assert!(unknown.contains("(a, b)"), "{unknown}");
        let zero = Parser::new(Format::Tsv, &selection("0", None, "2", None), None).unwrap_err();
        assert!(zero.to_string().contains("from 1"), "{zero}");
    }

    #[test]
    fn a_short_line_and_a_bad_ttl_say_what_is_wrong() {
        let parser = Parser::new(Format::Tsv, &selection("1", None, "3", Some("4")), None).unwrap();
        assert_eq!(
            parser.parse(b"a\tb").unwrap_err().to_string(),
            "column 3 is needed, the line has 2"
        );
        let bad = parser.parse(b"a\tb\tc\tsoon").unwrap_err().to_string();
        assert!(bad.contains("'soon'"), "{bad}");
        assert_eq!(parser.parse(b"a\tb\tc\t").unwrap().ttl_seconds, 0);
    }

    #[test]
    fn jsonl_reads_what_export_writes() {
        let parser = Parser::new(Format::Jsonl, &named_by_default(), None).unwrap();
        let row = parser
            .parse(br#"{"hash_key":"h","sort_key":{"b64":"/wA="},"value":"v","ttl":5}"#)
            .unwrap();
        assert_eq!(row.hash_key, b"h");
        assert_eq!(row.sort_key, b"\xff\x00");
        assert_eq!((row.value, row.ttl_seconds), (b"v".to_vec(), 5));
        assert_eq!(
            parser
                .parse(br#"{"hash_key":"h","value":""}"#)
                .unwrap()
                .sort_key,
            b""
        );
    }

    #[test]
    fn jsonl_names_the_missing_field() {
        let parser = Parser::new(
            Format::Jsonl,
            &selection("id", Some("part"), "body", None),
            None,
        )
        .unwrap();
        let missing = parser
            .parse(br#"{"id":1,"body":"x"}"#)
            .unwrap_err()
            .to_string();
        assert_eq!(missing, "field part is missing");
        assert!(parser.parse(b"[1]").is_err());
        assert!(parser.parse(b"{").is_err());
        assert!(parser.parse(br#"{"id":1,"part":[],"body":"x"}"#).is_err());
    }

    #[test]
    fn a_hash_key_over_the_encoding_limit_is_refused() {
        let parser = Parser::new(Format::Tsv, &selection("1", None, "2", None), None).unwrap();
        let mut line = vec![b'k'; 65_535];
        line.extend_from_slice(b"\tv");
        assert!(parser.parse(&line).is_err());
        assert!(parser.parse(&line[1..]).is_ok());
    }
}
