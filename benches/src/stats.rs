//! What is made of repeated measurements.

/// The least, the middle and the greatest of some measurements.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Summary {
    pub(crate) min: f64,
    pub(crate) median: f64,
    pub(crate) max: f64,
}

impl Summary {
    /// `None` of no measurements, and where one is no number.
    pub(crate) fn of(values: &[f64]) -> Option<Self> {
        let sorted = sorted(values)?;
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 {
            sorted[middle]
        } else {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        };
        Some(Summary { min, median, max })
    }

    /// A fixed value, such as a target.
    pub(crate) fn fixed(value: f64) -> Self {
        Summary { min: value, median: value, max: value }
    }
}

/// The smallest value that at least `percent` of the values do not exceed.
pub(crate) fn percentile(values: &[f64], percent: usize) -> Option<f64> {
    let sorted = sorted(values)?;
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

fn sorted(values: &[f64]) -> Option<Vec<f64>> {
    if values.is_empty() || values.iter().any(|value| !value.is_finite()) {
        return None;
    }
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    Some(sorted)
}

#[cfg(test)]
mod tests {
    use super::{Summary, percentile};

    #[test]
    fn the_median_is_the_middle_or_between_the_two() {
        let of = |values: &[f64]| Summary::of(values).map(|s| (s.min, s.median, s.max));
        assert_eq!(of(&[3.0, 1.0, 10.0]), Some((1.0, 3.0, 10.0)));
        assert_eq!(of(&[4.0, 1.0, 2.0, 10.0]), Some((1.0, 3.0, 10.0)));
        assert_eq!(of(&[7.0]), Some((7.0, 7.0, 7.0)));
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[1.0, f64::NAN]), None);
    }

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let values: Vec<f64> = (1..=200).rev().map(f64::from).collect();
        assert_eq!(percentile(&values, 50), Some(100.0));
        assert_eq!(percentile(&values, 99), Some(198.0));
        assert_eq!(percentile(&values, 100), Some(200.0));
        assert_eq!(percentile(&[5.0, 6.0], 99), Some(6.0));
        assert_eq!(percentile(&[5.0], 0), Some(5.0));
        assert_eq!(percentile(&[], 50), None);
    }
}
