//! The paper's own model of a chain of trade blocks, its formulas (1) to (5), as a calculator. Nothing in Hufu rests on it: each
//! node is the only writer of its log, so there is no race to win; receipts witness what was signed, and two signed headers of
//! one height prove a fork. Measuring what goes in is for the caller. No money is involved, hence the only floating point of
//! this crate.
#![allow(clippy::float_arithmetic, reason = "chances and seconds of a model; nothing here is billed, stored or signed")]
#![allow(clippy::cast_precision_loss, reason = "counts up to 10^12 are exact in a double")]

/// The most blocks that are computed with; the sums take about 20 times the square root of that in steps.
pub const BLOCKS_MAX: u64 = 1_000_000_000_000;

/// Terms smaller than this part of their sum so far end it: they fall faster than any geometric row from there on.
const NEGLIGIBLE: f64 = 1e-20;

/// A probability, with its logarithm, because it soon is smaller than any double.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Chance {
    /// From 0 to 1; 0 also when it is too small for a double.
    pub probability: f64,
    /// Logarithm to base 10; minus infinity when it is impossible.
    pub log10: f64,
}

impl Chance {
    const NEVER: Self = Self { probability: 0.0, log10: f64::NEG_INFINITY };
    const CERTAIN: Self = Self { probability: 1.0, log10: 0.0 };

    fn from_ln(ln: f64) -> Self {
        let ln = ln.min(0.0);
        Self { probability: ln.exp(), log10: ln / std::f64::consts::LN_10 }
    }
}

/// The chance that at least `need` of `count` independent witnesses do what each does with probability `each`: the upper tail of the
/// binomial distribution. `None` for a probability outside 0 to 1, for more witnesses needed than there are, or more than 64.
pub fn at_least(need: u32, count: u32, each: f64) -> Option<Chance> {
    if !(0.0..=1.0).contains(&each) || need > count || count > 64 {
        return None;
    }
    if need == 0 || each >= 1.0 {
        return Some(Chance::CERTAIN);
    }
    if each == 0.0 {
        return Some(Chance::NEVER);
    }
    let mut ways = 1.0_f64;
    let mut sum = 0.0;
    for some in 0..=count {
        if some > 0 {
            ways = ways * f64::from(count - some + 1) / f64::from(some);
        }
        if some >= need {
            sum += ways * each.powi(i32::try_from(some).ok()?) * (1.0 - each).powi(i32::try_from(count - some).ok()?);
        }
    }
    Some(Chance::from_ln(sum.ln()))
}

/// One question to formulas (1) and (2): an attacker makes the next block with probability `share` (the paper's beta, the honest
/// nodes' alpha being the rest), the trade has `blocks` blocks (n).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Race {
    share: f64,
    blocks: u64,
}

impl Race {
    /// `None` when the share is not from 0 to 1, or there are more than [`BLOCKS_MAX`] blocks.
    pub fn new(share: f64, blocks: u64) -> Option<Self> {
        ((0.0..=1.0).contains(&share) && blocks <= BLOCKS_MAX).then_some(Self { share, blocks })
    }

    /// beta / alpha; infinite when the attacker has everything.
    fn ratio(self) -> f64 {
        self.share / (1.0 - self.share)
    }

    /// The chance that the attacker ever replaces the honest chain, as we read formulas (1) and (2): with `r = beta/alpha` and
    /// X of Poisson's distribution with mean `n r`, the blocks the attacker has when the honest chain has n,
    /// `P = sum over i <= n of P(X = i) r^(n-i)  +  P(X > n)`. It is 1 for no block, and for an attacker as strong as the rest.
    pub fn overtaken(self) -> Chance {
        let ratio = self.ratio();
        if self.blocks == 0 || ratio >= 1.0 {
            return Chance::CERTAIN;
        }
        if ratio == 0.0 {
            return Chance::NEVER;
        }
        let (n, mean) = (self.blocks as f64, self.blocks as f64 * ratio);
        // Both sums, each divided by the common factor; r^(n-i) (n r)^i = r^n n^i, so the first has terms of n^i / i!.
        let behind = 1.0 + below(n, self.blocks, 0);
        let ahead = above(mean, self.blocks, u64::MAX);
        Chance::from_ln(self.common_ln() + (behind + ahead).ln())
    }

    /// The number of the formula, and what it gives exactly as printed: (1) when the attacker needs `attacker_blocks` (m) above n,
    /// `sum for i = 1 .. m of P(X = i) r^(n-i)`; (2) otherwise, `sum for i = 1 .. m of P(X = i)`. `None` where the paper's premise
    /// alpha > beta does not hold, and beyond one block more than [`BLOCKS_MAX`].
    pub fn printed(self, attacker_blocks: u64) -> Option<(u8, Chance)> {
        let ratio = self.ratio();
        if ratio >= 1.0 || attacker_blocks > BLOCKS_MAX + 1 {
            return None;
        }
        let formula = if attacker_blocks > self.blocks { 1 } else { 2 };
        if ratio == 0.0 || self.blocks == 0 || attacker_blocks == 0 {
            return Some((formula, Chance::NEVER));
        }
        let (n, mean) = (self.blocks as f64, self.blocks as f64 * ratio);
        if formula == 1 {
            let sum = 1.0 + below(n, self.blocks, 1) + above(n, self.blocks, attacker_blocks);
            return Some((1, Chance::from_ln(self.common_ln() + sum.ln())));
        }
        // From the largest term outwards, so that nothing is lost to rounding.
        let (mut low, mut high) = (1, attacker_blocks);
        while low < high {
            let middle = low + (high - low).div_ceil(2);
            if middle as f64 <= mean { low = middle } else { high = middle - 1 }
        }
        let (from, at) = (low, low as f64);
        let x = (mean - at) / at;
        let largest_ln = stirling_ln(from) - at * (x - x.ln_1p());
        let sum = 1.0 + below(mean, from, 1) + above(mean, from, attacker_blocks);
        Some((2, Chance::from_ln(largest_ln + sum.ln())))
    }

    /// ln of `e^(-n r) r^n n^n / n!`, without the difference of large numbers that this would be.
    fn common_ln(self) -> f64 {
        let (n, lead) = (self.blocks as f64, 1.0 - self.ratio());
        n * (lead + (-lead).ln_1p()) + stirling_ln(self.blocks)
    }
}

/// Terms `mean^i / i!` for i from `from - 1` down to `low`, each divided by that of `from`.
fn below(mean: f64, from: u64, low: u64) -> f64 {
    let (mut term, mut sum) = (1.0, 0.0);
    for i in (low.saturating_add(1)..=from).rev() {
        term *= i as f64 / mean;
        sum += term;
        if term < NEGLIGIBLE * (1.0 + sum) {
            break;
        }
    }
    sum
}

/// Terms `mean^i / i!` for i from `from + 1` up to `high`, each divided by that of `from`.
fn above(mean: f64, from: u64, high: u64) -> f64 {
    let (mut term, mut sum) = (1.0, 0.0);
    for i in from.saturating_add(1)..=high {
        term *= mean / i as f64;
        sum += term;
        if term < NEGLIGIBLE * (1.0 + sum) {
            break;
        }
    }
    sum
}

/// ln of `i^i e^(-i) / i!`, i at least 1.
fn stirling_ln(i: u64) -> f64 {
    let count = i as f64;
    if i < 16 {
        return (1..=i).map(|k| (count / k as f64).ln()).sum::<f64>() - count;
    }
    let square = count * count;
    let rest = (1.0 / 12.0 - (1.0 / 360.0 - 1.0 / (1260.0 * square)) / square) / count;
    -0.5 * (std::f64::consts::TAU * count).ln() - rest
}

/// Formula (3): the time to produce blocks of `sizes` bytes over a line of `bandwidth` bits per second, `sum of delta D_i / W`, in
/// seconds. As printed it is the time on the line alone; making and signing the blocks is not in it.
pub fn production_s(delta: f64, sizes: &[u64], bandwidth: f64) -> f64 {
    sizes.iter().map(|bytes| delta * (*bytes as f64 * 8.0) / bandwidth).sum()
}

/// Formula (4): the time to validate blocks that take `times_s` each, `sum of epsilon t_i`, in seconds.
pub fn validation_s(epsilon: f64, times_s: &[f64]) -> f64 {
    times_s.iter().map(|time| epsilon * time).sum()
}

/// Formula (5): times, in seconds, one after the other.
pub fn total_s(times_s: &[f64]) -> f64 {
    times_s.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn witnesses_that_do_something_are_counted_exactly() {
        // Three coins: at least two heads in half of the cases.
        let half = at_least(2, 3, 0.5).unwrap();
        assert!((half.probability - 0.5).abs() < 1e-12 && (half.log10 + std::f64::consts::LOG10_2).abs() < 1e-9);
        let few = at_least(3, 3, 0.1).unwrap();
        assert!((few.probability - 0.001).abs() < 1e-15);
        assert_eq!(at_least(0, 5, 0.3), Some(Chance::CERTAIN));
        assert_eq!(at_least(1, 5, 0.0), Some(Chance::NEVER));
        assert_eq!(at_least(5, 5, 1.0), Some(Chance::CERTAIN));
        for (need, count, each) in [(2, 1, 0.5), (1, 65, 0.5), (1, 2, 1.5), (1, 2, f64::NAN)] {
            assert_eq!(at_least(need, count, each), None);
        }
    }

    fn near(found: f64, want: f64, what: &str) {
        assert!((found - want).abs() <= want.abs() * 1e-12, "{what}: {found:e} where {want:e} is due");
    }

    /// Computed with Python's `decimal` at 120 digits, term by term from the formula. Those of 1, 10, 5, 50 and 340 blocks are
    /// also in section 11 of Nakamoto's paper, from which the model comes.
    #[test]
    fn our_reading_has_the_known_values() {
        for (share, blocks, want) in [
            (0.1, 1, 2.045872739427824e-1),
            (0.1, 4, 3.455243466485263e-3),
            (0.1, 10, 1.241402174803648e-6),
            (0.3, 5, 1.773523113609451e-1),
            (0.3, 50, 5.902953888034409e-7),
            (0.45, 340, 9.947214145056538e-4),
            (0.499, 1000, 9.457302834776311e-1),
            (0.001, 4, 3.434181213671339e-11),
            (0.2, 200, 2.850357356985308e-56),
        ] {
            near(Race::new(share, blocks).unwrap().overtaken().probability, want, &format!("{share} {blocks}"));
        }
        for (share, blocks, want) in [
            (0.1, 1_000, -568.495_413_247_642_5),
            (0.3, 20_000, -2_396.467_771_338_072),
            (0.1, 100_000, -56_820.597_160_345_43),
            (0.4999, 100_000, -0.024_250_533_351_558_36),
        ] {
            let found = Race::new(share, blocks).unwrap().overtaken().log10;
            assert!((found - want).abs() <= want.abs() * 1e-10, "{share} {blocks}: {found} where {want} is due");
        }
    }

    #[test]
    fn the_print_is_followed_to_the_letter() {
        for (share, blocks, needed, formula, want) in [
            (0.1, 4, 5, 1, 4.091462520286658e-3),
            (0.1, 4, 4, 2, 3.587196279729035e-1),
            (0.3, 5, 9, 1, 2.420343046000095e-1),
            (0.3, 5, 2, 2, 5.207534413367254e-1),
            (0.45, 50, 60, 1, 3.614896563797093e-1),
            (0.45, 50, 20, 2, 2.282529502523689e-4),
            (0.1, 1, 1_000, 1, 1.708429041636487e-1),
        ] {
            let (number, found) = Race::new(share, blocks).unwrap().printed(needed).unwrap();
            assert_eq!(number, formula, "{share} {blocks} {needed}");
            near(found.probability, want, &format!("{share} {blocks} {needed}"));
        }
    }

    #[test]
    fn nothing_is_lost_or_invented_at_the_ends() {
        let overtaken = |share, blocks| Race::new(share, blocks).unwrap().overtaken();
        for (share, blocks) in [(0.5, 4), (0.7, u64::from(u32::MAX)), (1.0, 4), (0.0, 0), (0.3, 0)] {
            assert_eq!(overtaken(share, blocks), Chance::CERTAIN, "{share} {blocks}");
        }
        assert_eq!(overtaken(0.0, 1), Chance::NEVER);
        for share in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
            assert_eq!(Race::new(share, 4), None, "{share}");
        }
        assert_eq!(Race::new(0.1, BLOCKS_MAX + 1), None);
        let far = overtaken(0.1, BLOCKS_MAX);
        assert!(far.probability == 0.0 && far.log10 < -1e11 && far.log10.is_finite(), "{far:?}");
        let close = overtaken(0.499_999_999, BLOCKS_MAX);
        assert!((0.0..=1.0).contains(&close.probability) && close.log10 <= 0.0, "{close:?}");
        assert_eq!(Race::new(0.6, 4).unwrap().printed(5), None);
        assert_eq!(Race::new(0.0, 4).unwrap().printed(5), Some((1, Chance::NEVER)));
        assert_eq!(Race::new(0.1, 0).unwrap().printed(1), Some((1, Chance::NEVER)));
        let (_, whole) = Race::new(0.1, 1_000_000).unwrap().printed(1_000_000).unwrap();
        assert!((whole.probability - 1.0).abs() < 1e-9, "{whole:?}");
    }

    #[test]
    fn more_blocks_and_a_weaker_attacker_never_help_it() {
        let mut last = 1.0;
        for blocks in 0..400 {
            let now = Race::new(0.3, blocks).unwrap().overtaken().probability;
            assert!(now <= last, "{blocks}");
            last = now;
        }
        let mut last = 0.0;
        for share in 0..=60 {
            let now = Race::new(f64::from(share) / 100.0, 6).unwrap().overtaken().probability;
            assert!(now >= last, "{share}");
            last = now;
        }
    }

    #[test]
    fn times_add_up_as_printed() {
        near(production_s(2.0, &[1_000, 500], 1_000_000.0), 0.024, "two nodes, a megabit a second");
        near(validation_s(1.5, &[0.002, 0.004]), 0.009, "validation");
        assert_eq!(production_s(1.0, &[], 1.0), 0.0);
        near(total_s(&[0.024, 0.009]), 0.033, "together");
    }
}
