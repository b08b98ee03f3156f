//! Axes whose marks are chosen for people who read latencies.

use std::ops::Range;

use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged};

/// About so many marks fit on an even axis.
const MARKS: f64 = 12.0;

/// An even or a logarithmic axis.
pub(super) struct Axis {
    range: Range<f64>,
    logarithmic: bool,
    marks: Vec<f64>,
}

impl Axis {
    /// Logarithmic, from below the least to above the most.
    pub(super) fn around(values: impl Iterator<Item = f64> + Clone) -> Self {
        let least = values.clone().fold(f64::MAX, f64::min).max(0.1);
        let most = values.fold(0.1, f64::max);
        let range = least.min(most) / 1.2..(most * 1.5).max(least.min(most) * 10.0);
        Self {
            marks: powers(&range),
            logarithmic: true,
            range,
        }
    }

    /// Even, from 0, with these marks.
    pub(super) fn marked(end: f64, marks: Vec<f64>) -> Self {
        Self {
            range: 0.0..end,
            logarithmic: false,
            marks,
        }
    }

    /// Even, from 0, with round marks.
    pub(super) fn even(end: f64) -> Self {
        let power = 10f64.powf((end / MARKS).log10().floor());
        let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * power);
        let step = steps.into_iter().find(|step| end / step <= MARKS);
        let step = step.unwrap_or(end);
        let marks = (0..=(end / step) as u32).map(|n| f64::from(n) * step);
        Self::marked(end, marks.collect())
    }

    fn share(&self, value: f64) -> f64 {
        let Range { start, end } = self.range;
        if self.logarithmic {
            (value.max(start) / start).ln() / (end / start).ln()
        } else {
            (value - start) / (end - start)
        }
    }
}

/// 1, 2 and 5 of each power of ten within the range, or only 1 where that would be too many.
fn powers(range: &Range<f64>) -> Vec<f64> {
    let steps: &[f64] = if range.end / range.start > 1e4 {
        &[1.0]
    } else {
        &[1.0, 2.0, 5.0]
    };
    let powers = range.start.log10().floor() as i32..=range.end.log10().ceil() as i32;
    powers
        .flat_map(|power| steps.iter().map(move |step| step * 10f64.powi(power)))
        .filter(|mark| range.contains(mark))
        .collect()
}

impl Ranged for Axis {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (from, to): (i32, i32)) -> i32 {
        from + (f64::from(to - from) * self.share(*value)).round() as i32
    }

    fn key_points<H: KeyPointHint>(&self, hint: H) -> Vec<f64> {
        if hint.weight().allow_light_points() {
            return Vec::new();
        }
        self.marks.clone()
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_are_marked_for_people() {
        assert_eq!(powers(&(0.9..60.0)), [1.0, 2.0, 5.0, 10.0, 20.0, 50.0]);
        assert_eq!(powers(&(0.9..2e5)).len(), 6);
        assert_eq!(Axis::even(9.0).marks.len(), 10);
        assert_eq!(
            Axis::even(60.0).marks,
            (0..13).map(|n| f64::from(n) * 5.0).collect::<Vec<_>>()
        );
        let axis = Axis::around([5.0, 5.0].into_iter());
        assert_eq!(axis.range.end, 50.0);
        assert_eq!(Axis::even(10.0).map(&5.0, (0, 100)), 50);
        let decades = Axis {
            range: 1.0..100.0,
            logarithmic: true,
            marks: Vec::new(),
        };
        assert_eq!(decades.map(&10.0, (100, 0)), 50);
    }
}
