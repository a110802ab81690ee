//! Arguments behind the `?` of a request, as Apache Pegasus reads them: `key=value&flag`, each key once.

use thiserror::Error;

/// The arguments of a request, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arguments {
    pairs: Vec<(String, String)>,
}

/// Why a query cannot be understood: answer status 400 with this sentence.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("invalid query, {kind}: \"{part}\"")]
pub struct QueryError {
    pub kind: QueryErrorKind,
    /// As it came, its beginning if it is long.
    pub part: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum QueryErrorKind {
    #[error("an escape is % and two hexadecimal digits")]
    Escape,
    #[error("not UTF-8")]
    NotUtf8,
    #[error("an argument is there twice")]
    Duplicate,
}

/// Bytes of a part that an error quotes.
const PART_BYTES_MAX: usize = 64;

impl Arguments {
    pub(crate) fn parse(query: &str) -> Result<Self, QueryError> {
        let mut arguments = Self::default();
        for part in query.split('&').filter(|part| !part.is_empty()) {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            let key = unescape(key, Plus::IsSpace)?;
            let value = unescape(value, Plus::IsSpace)?;
            if arguments.get(&key).is_some() {
                return Err(error(QueryErrorKind::Duplicate, part));
            }
            arguments.pairs.push((key, value));
        }
        Ok(arguments)
    }

    /// The value of the argument of this name; empty for one without `=`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter()
            .find_map(|(key, value)| (key == name).then_some(value))
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
    }

    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }
}

/// What a `+` means: a space in a query, itself in a path.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plus {
    IsSpace,
    IsPlus,
}

pub(crate) fn unescape(text: &str, plus: Plus) -> Result<String, QueryError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'%' => {
                let Some((high, low, after)) = two_digits(rest) else {
                    return Err(error(QueryErrorKind::Escape, text));
                };
                bytes.push(high << 4 | low);
                rest = after;
            }
            b'+' if plus == Plus::IsSpace => bytes.push(b' '),
            byte => bytes.push(*byte),
        }
    }
    String::from_utf8(bytes).map_err(|_| error(QueryErrorKind::NotUtf8, text))
}

fn two_digits(bytes: &[u8]) -> Option<(u8, u8, &[u8])> {
    let (digits, after) = bytes.split_first_chunk::<2>()?;
    let digit = |byte: u8| {
        let value = char::from(byte).to_digit(16)?;
        u8::try_from(value).ok()
    };
    Some((digit(digits[0])?, digit(digits[1])?, after))
}

fn error(kind: QueryErrorKind, part: &str) -> QueryError {
    let end = part.floor_char_boundary(PART_BYTES_MAX);
    QueryError {
        kind,
        part: part[..end].to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_unescaped_and_flags_are_empty() {
        let arguments = Arguments::parse("name=a%20b+c&detail&&x=%3d=").expect("well formed");
        let pairs: Vec<_> = arguments.iter().collect();
        assert_eq!(pairs, [("name", "a b c"), ("detail", ""), ("x", "==")]);
    }

    #[test]
    fn a_bad_escape_a_duplicate_and_foreign_bytes_are_named() {
        for (query, kind) in [
            ("a=%4", QueryErrorKind::Escape),
            ("a=%zz", QueryErrorKind::Escape),
            ("a=%+1", QueryErrorKind::Escape),
            ("a=1&a=2", QueryErrorKind::Duplicate),
            ("a=%ff", QueryErrorKind::NotUtf8),
        ] {
            let error = Arguments::parse(query).expect_err(query);
            assert_eq!(error.kind, kind, "{query}");
            assert!(error.to_string().contains('"'));
        }
    }
}
