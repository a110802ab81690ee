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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_page_travels_without_its_zeros() {
        let mut words = vec![0; PAGE_WORDS];
        words[0] = 5;
        words[PAGE_WORDS - 2..].copy_from_slice(&[7, 8]);
        let run = |start: usize, length: u64| start as u64 | length << 32;
        let compacted = compact(&words);
        assert_eq!(compacted, [run(0, 1), 5, run(PAGE_WORDS - 2, 2), 7, 8]);
        assert_eq!(expand(&compacted), Ok(words));
        assert_eq!(expand(&[]), Ok(vec![0; PAGE_WORDS]));
    }

    #[test]
    fn the_longest_is_within_the_bound() {
        let words: Vec<u64> = (0..PAGE_WORDS as u64).map(|at| (at + 1) % 2).collect();
        let compacted = compact(&words);
        assert!(compacted.len() <= COMPACT_WORDS_MAX, "{}", compacted.len());
        assert_eq!(expand(&compacted), Ok(words));
        assert!(compact(&vec![1; PAGE_WORDS]).len() <= COMPACT_WORDS_MAX);
    }

    #[test]
    fn runs_that_make_no_page_are_refused() {
        let run = |start: u64, length: u64| start | length << 32;
        let page = PAGE_WORDS as u64;
        for bad in [
            vec![run(0, 2), 1],
            vec![run(0, 0)],
            vec![run(5, 1), 1, run(5, 1), 1],
            vec![run(5, 1), 1, run(0, 1), 1],
            vec![run(page, 1), 1],
            vec![run(page - 1, 2), 1, 1],
            vec![u64::MAX],
        ] {
            assert_eq!(expand(&bad), Err(PageError::NotAPage), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn every_page_comes_back(sparse in proptest::collection::btree_map(0..PAGE_WORDS, any::<u64>(), 0..300)) {
            let mut words = vec![0; PAGE_WORDS];
            for (at, word) in sparse {
                words[at] = word;
            }
            prop_assert_eq!(expand(&compact(&words)), Ok(words));
        }

        #[test]
        fn anything_is_refused_or_a_page(words in proptest::collection::vec(prop_oneof![any::<u64>(), 0..(4_u64 << 32), Just(1_u64 << 32)], 0..50)) {
            if let Ok(page) = expand(&words) {
                prop_assert_eq!(page.len(), PAGE_WORDS);
            }
        }
    }
}
