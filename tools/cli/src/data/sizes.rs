//! How large rows are.

use crate::output::{bytes, count, table};
use comfy_table::Table;
use hdrhistogram::Histogram;
use pegasus_client::Row;
use serde_json::{Value, json};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Sizes of one part of rows, in bytes.
#[derive(Clone, Debug)]
struct Part {
    name: &'static str,
    sizes: Histogram<u64>,
    sum: u64,
}

const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];

impl Part {
    fn new(name: &'static str) -> Self {
        // Larger than any row; three digits.
        let sizes = Histogram::new_with_bounds(1, 1 << 30, 3).expect("the bounds are constants");
        Self {
            name,
            sizes,
            sum: 0,
        }
    }

    fn add(&mut self, size: usize) {
        self.sizes.saturating_record(size as u64);
        self.sum += size as u64;
    }

    fn average(&self) -> u64 {
        self.sum.checked_div(self.sizes.len()).unwrap_or(0)
    }

    fn smallest(&self) -> u64 {
        if self.sizes.is_empty() {
            0
        } else {
            self.sizes.min()
        }
    }

    fn json(&self) -> Value {
        let mut shown = json!({
            "bytes": self.sum, "average": self.average(), "min": self.smallest(), "max": self.sizes.max(),
        });
        for (name, quantile) in QUANTILES {
            shown[name] = json!(self.sizes.value_at_quantile(quantile));
        }
        shown
    }
}

/// Sizes of hash keys, sort keys, values and whole rows.
#[derive(Clone, Debug)]
pub(super) struct Sizes {
    parts: [Part; 4],
}

impl Sizes {
    pub(super) fn new() -> Self {
        Self {
            parts: ["hash key", "sort key", "value", "row"].map(Part::new),
        }
    }

    pub(super) fn add(&mut self, row: &Row) {
        let (hash_key, sort_key) = (row.hash_key.len(), row.sort_key.len());
        let all = [hash_key, sort_key, row.value.len(), row_bytes(row)];
        for (part, size) in self.parts.iter_mut().zip(all) {
            part.add(size);
        }
    }

    pub(super) fn table(&self) -> Table {
        let mut header = vec!["bytes of a", "sum", "average", "min"];
        header.extend(QUANTILES.map(|(name, _)| name));
        header.push("max");
        let mut rows = table(&header, &[1, 2, 3, 4, 5, 6, 7, 8]);
        for part in &self.parts {
            let mut row = vec![part.name.to_owned(), bytes(part.sum)];
            row.extend([count(part.average()), count(part.smallest())]);
            let quantile = |(_, quantile)| count(part.sizes.value_at_quantile(quantile));
            row.extend(QUANTILES.map(quantile));
            row.push(count(part.sizes.max()));
            rows.add_row(row);
        }
        rows
    }

    pub(super) fn json(&self) -> Value {
        let parts = self.parts.iter();
        let parts = parts.map(|part| (part.name.replace(' ', "_"), part.json()));
        Value::Object(parts.collect())
    }
}

pub(super) fn row_bytes(row: &Row) -> usize {
    row.hash_key.len() + row.sort_key.len() + row.value.len()
}

/// The largest of many, by a number.
#[derive(Clone, Debug)]
pub(super) struct Top<T> {
    count_max: usize,
    found: BinaryHeap<Reverse<(u64, T)>>,
}

impl<T: Ord> Top<T> {
    pub(super) const fn new(count_max: usize) -> Self {
        Self {
            count_max,
            found: BinaryHeap::new(),
        }
    }

    /// `what` is made only if it is among them.
    pub(super) fn add(&mut self, number: u64, what: impl FnOnce() -> T) {
        let is_full = self.found.len() >= self.count_max;
        let smallest = self
            .found
            .peek()
            .map_or(0, |Reverse((smallest, _))| *smallest);
        if self.count_max == 0 || (is_full && number <= smallest) {
            return;
        }
        if is_full {
            self.found.pop();
        }
        self.found.push(Reverse((number, what())));
    }

    /// The largest first.
    pub(super) fn sorted(self) -> Vec<(u64, T)> {
        let sorted = self.found.into_sorted_vec();
        sorted.into_iter().map(|Reverse(it)| it).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_are_kept_largest_first() {
        let mut top = Top::new(2);
        for number in [3, 9, 1, 7, 8] {
            top.add(number, || format!("row {number}"));
        }
        assert_eq!(
            top.sorted(),
            [(9, "row 9".to_owned()), (8, "row 8".to_owned())]
        );
        let mut none = Top::new(0);
        none.add(3, || "never".to_owned());
        assert!(none.sorted().is_empty());
    }

    #[test]
    fn sizes_of_no_rows_are_zero_and_of_some_are_theirs() {
        let mut sizes = Sizes::new();
        assert_eq!(sizes.json()["row"]["min"], 0);
        let row = |value: &'static str| Row {
            hash_key: "hh".into(),
            sort_key: "s".into(),
            value: value.into(),
            expire_at: 0,
        };
        sizes.add(&row("vvvv"));
        sizes.add(&row(""));
        let shown = sizes.json();
        assert_eq!(shown["hash_key"]["max"], 2);
        assert_eq!(
            (&shown["value"]["min"], &shown["value"]["max"]),
            (&json!(0), &json!(4))
        );
        assert_eq!(
            (&shown["row"]["bytes"], &shown["row"]["average"]),
            (&json!(10), &json!(5))
        );
    }
}
