//! A page without its zeros, as it travels: nearly all buckets of nearly all histograms are empty.
//!
//! The words of a page that are not 0, in runs: a word with the place of the run's first word (low 32 bits) and the
//! number of its words (high 32 bits), then these. Runs follow one another in the order of the page.

use super::{PAGE_WORDS, PageError};

/// The most words that a page takes when compacted: runs with a single 0 between them.
pub const COMPACT_WORDS_MAX: usize = PAGE_WORDS + PAGE_WORDS / 2 + 1;

/// Leaves out the zeros of a page.
#[must_use]
pub fn compact(words: &[u64]) -> Vec<u64> {
    let mut compacted = Vec::with_capacity(PAGE_WORDS / 16);
    let mut at = 0_u64;
    for run in words.chunk_by(|one, next| (*one == 0) == (*next == 0)) {
        let length = run.len() as u64;
        if run.first().is_some_and(|word| *word != 0) {
            compacted.push(at | length << 32);
            compacted.extend_from_slice(run);
        }
        at += length;
    }
    compacted
}

/// The words of a page from what [`compact`] made of them.
///
/// # Errors
/// Runs that overlap, go back, are cut, or lie outside of the page.
pub fn expand(mut compacted: &[u64]) -> Result<Vec<u64>, PageError> {
    let mut words = vec![0; PAGE_WORDS];
    let mut free_from = 0;
    while let [head, rest @ ..] = compacted {
        let (start, length) = super::halves(*head);
        let (start, length) = (start as usize, length as usize);
        let run = rest.get(..length).ok_or(PageError::NotAPage)?;
        let place = words
            .get_mut(start..)
            .and_then(|words| words.get_mut(..length))
            .filter(|_| start >= free_from && length > 0)
            .ok_or(PageError::NotAPage)?;
        place.copy_from_slice(run);
        free_from = start + length;
        compacted = &rest[length..];
    }
    Ok(words)
}
