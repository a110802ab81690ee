//! JSON whose members stay in the order in which they were put in: people read it.

use std::fmt::{self, Display, Write as _};

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Json {
    Text(String),
    Number(u64),
    List(Vec<Self>),
    Object(Vec<(String, Self)>),
}

impl Json {
    pub(super) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// As Apache's tables print everything: numbers too are texts.
    pub(super) fn shown(value: impl Display) -> Self {
        Self::Text(value.to_string())
    }
}

/// An object of these members.
pub(super) fn object<K: Into<String>>(members: impl IntoIterator<Item = (K, Json)>) -> Json {
    let members = members.into_iter();
    Json::Object(members.map(|(key, value)| (key.into(), value)).collect())
}

impl Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write_text(f, text),
            Self::Number(number) => write!(f, "{number}"),
            Self::List(items) => {
                f.write_char('[')?;
                for (index, item) in items.iter().enumerate() {
                    let separator = if index == 0 { "" } else { "," };
                    write!(f, "{separator}{item}")?;
                }
                f.write_char(']')
            }
            Self::Object(members) => {
                f.write_char('{')?;
                for (index, (key, value)) in members.iter().enumerate() {
                    f.write_str(if index == 0 { "" } else { "," })?;
                    write_text(f, key)?;
                    write!(f, ":{value}")?;
                }
                f.write_char('}')
            }
        }
    }
}

fn write_text(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    let quoted = serde_json::to_string(text).map_err(|_| fmt::Error)?;
    f.write_str(&quoted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_can_be_read_by_anybody() {
        let written = object([
            ("b", Json::text("a \"quoted\"\nline")),
            ("a", Json::List(vec![Json::Number(7), Json::shown(8)])),
            ("empty", object::<String>([])),
        ])
        .to_string();
        assert_eq!(
            written,
            r#"{"b":"a \"quoted\"\nline","a":[7,"8"],"empty":{}}"#
        );
        assert!(serde_json::from_str::<serde_json::Value>(&written).is_ok());
    }
}
