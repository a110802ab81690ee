//! What `--rate` may say.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

/// The rate of an open loop, as it was asked for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Offer {
    /// Operations a second.
    PerSecond(f64),
    /// `50%`, or `auto`, which is half: a share of the highest rate that holds, which a short sweep finds first.
    OfKnee(f64),
    Nonsense(String),
}

/// What `auto` stands for: below it queues are short, and a disturbance has room.
const AUTO: f64 = 0.5;

impl FromStr for Offer {
    /// What makes no sense is told together with the option's range.
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        let nonsense = || Self::Nonsense(text.to_owned());
        if text == "auto" {
            return Ok(Self::OfKnee(AUTO));
        }
        let share = |percent: f64| Self::OfKnee(percent / 100.0);
        Ok(match text.strip_suffix('%') {
            Some(percent) => percent.trim().parse().map_or_else(|_| nonsense(), share),
            None => text.parse().map_or_else(|_| nonsense(), Self::PerSecond),
        })
    }
}

impl fmt::Display for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PerSecond(rate) => write!(f, "{rate}"),
            Self::OfKnee(share) => write!(f, "{:.0}%", share * 100.0),
            Self::Nonsense(text) => f.write_str(text),
        }
    }
}
