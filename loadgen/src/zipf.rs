//! Zipf's law: a few users log in all the time, most hardly ever.

use crate::rng::Rng;

/// Draws ranks by rejection from an inverted integral (Hörmann and Derflinger 1996): constant
/// time and memory for any number of users.
pub(crate) struct Zipf {
    exponent: f64,
    count: f64,
    /// The integral at the ends of the range.
    first: f64,
    last: f64,
    /// Closer to a rank than this needs no second look.
    near: f64,
}

impl Zipf {
    pub(crate) fn new(count: u32, exponent: f64) -> Self {
        let mut zipf = Self {
            exponent,
            count: f64::from(count),
            first: 0.0,
            last: 0.0,
            near: 0.0,
        };
        zipf.first = zipf.integral(1.5) - 1.0;
        zipf.last = zipf.integral(zipf.count + 0.5);
        zipf.near = 2.0 - zipf.inverse(zipf.integral(2.5) - zipf.density(2.0));
        zipf
    }

    /// A rank, from 0.
    pub(crate) fn draw(&self, rng: &mut Rng) -> u32 {
        loop {
            let at = self.last + rng.share() * (self.first - self.last);
            let x = self.inverse(at);
            let rank = (x + 0.5).floor().clamp(1.0, self.count);
            if rank - x <= self.near || at >= self.integral(rank + 0.5) - self.density(rank) {
                return rank as u32 - 1;
            }
        }
    }

    fn density(&self, x: f64) -> f64 {
        (-self.exponent * x.ln()).exp()
    }

    fn integral(&self, x: f64) -> f64 {
        let log = x.ln();
        let y = (1.0 - self.exponent) * log;
        // (exp(y) - 1) / y, which is 1 at 0
        let quotient = if y.abs() > 1e-8 {
            y.exp_m1() / y
        } else {
            1.0 + y / 2.0
        };
        quotient * log
    }

    fn inverse(&self, x: f64) -> f64 {
        let y = (x * (1.0 - self.exponent)).max(-1.0);
        // ln(1 + y) / y, which is 1 at 0
        let quotient = if y.abs() > 1e-8 {
            y.ln_1p() / y
        } else {
            1.0 - y / 2.0
        };
        (quotient * x).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_follow_the_law() {
        const DRAWS: u32 = 200_000;
        for exponent in [0.5, 1.0, 1.2, 2.0] {
            let (zipf, mut rng) = (Zipf::new(1000, exponent), Rng::new(3));
            let mut counts = vec![0u32; 1000];
            for _ in 0..DRAWS {
                counts[zipf.draw(&mut rng) as usize] += 1;
            }
            let weight = |rank: u32| f64::from(rank).powf(-exponent);
            let all: f64 = (1..=1000).map(weight).sum();
            for rank in [1, 2, 3, 10, 100] {
                let expected = f64::from(DRAWS) * weight(rank) / all;
                let found = f64::from(counts[rank as usize - 1]);
                // Five standard deviations of a count.
                assert!(
                    (found - expected).abs() < 5.0 * expected.sqrt(),
                    "exponent {exponent}, rank {rank}: {found}, expected {expected}"
                );
            }
        }
        assert_eq!(Zipf::new(1, 1.0).draw(&mut Rng::new(1)), 0);
    }
}
