//! The scale of a chart: where a value lies, and which values are worth a line.

use std::ops::RangeInclusive;

/// One direction of a chart.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    pub(super) label: String,
    pub(super) scale: Scale,
    pub(super) format: fn(f64) -> String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scale {
    /// From zero on.
    Linear,
    /// From the smallest value on; values that are not positive cannot be shown.
    Log,
    /// Logarithmic in 1 / (1 - q), with the usual percentiles as lines.
    Percentile,
}

/// An axis with its ends fixed by the data.
#[derive(Clone, Debug)]
pub(super) struct Fitted {
    scale: Scale,
    low: f64,
    high: f64,
}

impl Axis {
    /// Fits the ends to the values; without any value the axis goes from 0 (or 1) to 10.
    pub(super) fn fit(&self, values: impl Iterator<Item = f64>) -> Fitted {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values.filter(|value| self.scale.shows(*value)) {
            low = low.min(value);
            high = high.max(value);
        }
        if low > high {
            (low, high) = (1.0, 10.0);
        }
        match self.scale {
            Scale::Linear => Fitted {
                scale: self.scale,
                low: low.min(0.0),
                high: if high > 0.0 { high * 1.06 } else { 1.0 },
            },
            Scale::Log => Fitted {
                scale: self.scale,
                low: low / 1.25,
                high: (high * 1.25).max(low * 2.0),
            },
            Scale::Percentile => Fitted {
                scale: self.scale,
                low: 1.0,
                high: (high * 1.1).max(12.0),
            },
        }
    }
}

impl Scale {
    pub(super) fn shows(self, value: f64) -> bool {
        value.is_finite() && (self == Self::Linear || value > 0.0)
    }
}

impl Fitted {
    /// Without room at the ends: time runs from the first moment to the last.
    pub(super) fn exactly(range: RangeInclusive<f64>) -> Self {
        let (low, high) = range.into_inner();
        Self {
            scale: Scale::Linear,
            low,
            high: if high > low { high } else { low + 1.0 },
        }
    }

    /// 0 at the low end, 1 at the high one.
    pub(super) fn place(&self, value: f64) -> f64 {
        let part = match self.scale {
            Scale::Linear => (value - self.low) / (self.high - self.low),
            Scale::Log | Scale::Percentile => (value / self.low).ln() / (self.high / self.low).ln(),
        };
        part.clamp(0.0, 1.0)
    }

    /// Values worth a line, ascending, with those that deserve a label marked.
    pub(super) fn ticks(&self) -> Vec<f64> {
        match self.scale {
            Scale::Linear => linear_ticks(self.low, self.high),
            Scale::Log => log_ticks(self.low, self.high),
            Scale::Percentile => [1.0, 2.0]
                .into_iter()
                .chain((1..=9).map(|power| 10_f64.powi(power)))
                .filter(|tick| *tick <= self.high)
                .collect(),
        }
    }
}

/// Four to eight steps of 1, 2 or 5 times a power of ten.
fn linear_ticks(low: f64, high: f64) -> Vec<f64> {
    let rough = (high - low) / 5.0;
    let power = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|step| *step >= rough)
        .unwrap_or(power * 10.0);
    (0..=10)
        .map(|index| (low / step).ceil() * step + f64::from(index) * step)
        .take_while(|tick| *tick <= high)
        .collect()
}

/// Powers of ten; with 2 and 5 between them when there are few.
fn log_ticks(low: f64, high: f64) -> Vec<f64> {
    let decades = (high / low).log10();
    let factors: &[f64] = if decades < 2.5 {
        &[1.0, 2.0, 5.0]
    } else {
        &[1.0]
    };
    (-3..=12)
        .flat_map(|power| {
            factors
                .iter()
                .map(move |factor| factor * 10_f64.powi(power))
        })
        .filter(|tick| (low..=high).contains(tick))
        .collect()
}

/// `x = 1 / (1 - q)` as the percentile people know: 2 is p50, 1000 is p99.9.
pub(super) fn percentile_name(x: f64) -> String {
    if x <= 1.0 {
        return "min".to_owned();
    }
    let percent = (1.0 - 1.0 / x) * 100.0;
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "at most 9 digits"
    )]
    let digits = (x.log10().ceil() - 2.0).clamp(0.0, 9.0) as usize;
    format!("p{percent:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(scale: Scale) -> Axis {
        Axis {
            label: String::new(),
            scale,
            format: |value| value.to_string(),
        }
    }

    #[test]
    fn a_linear_axis_starts_at_zero_and_has_round_steps() {
        let fitted = axis(Scale::Linear).fit([300.0, 950.0].into_iter());
        assert_eq!(fitted.ticks(), [0.0, 500.0, 1000.0]);
        let fitted = axis(Scale::Linear).fit([0.7].into_iter());
        assert_eq!(fitted.ticks().len(), 4, "{:?}", fitted.ticks());
        assert!((fitted.place(0.371) - 0.5).abs() < 1e-9);
    }

    #[test]
    fn a_logarithmic_axis_gives_each_factor_the_same_room() {
        let fitted = axis(Scale::Log).fit([10.0, 1000.0].into_iter());
        assert!((fitted.place(100.0) - 0.5).abs() < 1e-9);
        assert_eq!(
            fitted.ticks(),
            [10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0]
        );
        let wide = axis(Scale::Log).fit([10.0, 1e6].into_iter());
        assert_eq!(wide.ticks(), [10.0, 100.0, 1e3, 1e4, 1e5, 1e6]);
    }

    #[test]
    fn nothing_and_nonsense_still_make_an_axis() {
        for scale in [Scale::Linear, Scale::Log, Scale::Percentile] {
            for values in [vec![], vec![0.0], vec![f64::NAN, f64::INFINITY], vec![5.0]] {
                let fitted = axis(scale).fit(values.iter().copied());
                assert!(fitted.place(5.0).is_finite(), "{scale:?} {values:?}");
                assert!(fitted.ticks().len() <= 60, "{scale:?} {values:?}");
            }
        }
        assert!(Fitted::exactly(3.0..=3.0).place(3.0).is_finite());
    }

    #[test]
    fn percentiles_have_their_names() {
        assert_eq!(percentile_name(1.0), "min");
        assert_eq!(percentile_name(2.0), "p50");
        assert_eq!(percentile_name(10.0), "p90");
        assert_eq!(percentile_name(100.0), "p99");
        assert_eq!(percentile_name(1000.0), "p99.9");
        assert_eq!(percentile_name(100_000.0), "p99.999");
    }
}
