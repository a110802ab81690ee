//! What a reader has to know before the figures.

/// One sentence and how much it weighs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) weight: Weight,
    pub(crate) sentence: String,
}

/// Worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Weight {
    /// Something failed.
    Bad,
    /// The figures may not mean what they seem to.
    Doubt,
    Good,
}

impl Finding {
    pub(crate) fn bad(sentence: String) -> Self {
        Self {
            weight: Weight::Bad,
            sentence,
        }
    }

    pub(crate) fn doubt(sentence: String) -> Self {
        Self {
            weight: Weight::Doubt,
            sentence,
        }
    }
}
