//! From a distance measured in an *estimated* spread to the sigma of a normal distribution that is as
//! surprising. An estimate from few samples is sometimes far too small, so that a large distance is
//! less surprising than it looks: it follows Student's t, not the normal distribution.

use std::f64::consts::PI;

use statrs::distribution::{ContinuousCDF, Normal, StudentsT};
use statrs::function::gamma::ln_gamma;

/// Below this probability the distributions' own numbers run out; see [`far_sigma_of`].
const SMALLEST_TAIL: f64 = 1e-290;

/// The sigma of the normal distribution whose tail is that of Student's t with `freedom` degrees of
/// freedom beyond `t`. Odd in `t`, rising, and never larger than `t` in size. `freedom` is at least 1.
pub(super) fn sigma_of(t: f64, freedom: f64) -> f64 {
    let size = t.abs();
    let tail = StudentsT::new(0.0, 1.0, freedom.max(1.0)).map_or(0.0, |d| d.sf(size));
    let sigma = if tail > SMALLEST_TAIL {
        -Normal::standard().inverse_cdf(tail)
    } else {
        far_sigma_of(size, freedom.max(1.0))
    };
    sigma.clamp(0.0, size).copysign(t)
}

/// The distance that is as surprising as `sigma`: the inverse of [`sigma_of`].
pub(super) fn distance_of(sigma: f64, freedom: f64) -> f64 {
    let freedom = freedom.max(1.0);
    // `sigma_of` rises and is never larger than its argument, so the answer lies above `sigma`.
    let (mut low, mut high) = (sigma.abs(), sigma.abs().max(1.0));
    while sigma_of(high, freedom) < sigma.abs() && high < 1e12 {
        high *= 2.0;
    }
    // Each step halves the interval; after 60 there is nothing left of it.
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        if sigma_of(middle, freedom) < sigma.abs() {
            low = middle;
        } else {
            high = middle;
        }
    }
    (0.5 * (low + high)).copysign(sigma)
}

/// [`sigma_of`] where probabilities are too small for a double, by their logarithms: a tail is the
/// density times Mills' ratio, `(freedom + t²) / (freedom · t)` for Student's t and `1 / sigma` for the
/// normal distribution, both to within `1 / sigma²`.
fn far_sigma_of(t: f64, freedom: f64) -> f64 {
    // `1 + t²/freedom` without overflow for giants.
    let log_growth = 2.0 * (t / freedom.sqrt()).hypot(1.0).ln();
    let log_density = ln_gamma(0.5 * (freedom + 1.0))
        - ln_gamma(0.5 * freedom)
        - 0.5 * (freedom * PI).ln()
        - 0.5 * (freedom + 1.0) * log_growth;
    let log_tail = log_density + log_growth - t.ln();
    let mut sigma = (-2.0 * log_tail).sqrt();
    // `log_tail = -sigma²/2 - ln(sigma·√2π)`; each step gains more than two digits out here.
    for _ in 0..4 {
        sigma = (-2.0 * (log_tail + (sigma * (2.0 * PI).sqrt()).ln())).sqrt();
    }
    sigma
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(t: f64, freedom: f64, sigma: f64) {
        let found = sigma_of(t, freedom);
        assert!(
            (found - sigma).abs() < 2e-3,
            "t {t}, freedom {freedom}: {found}, expected {sigma}"
        );
        assert!((sigma_of(-t, freedom) + found).abs() < 1e-12);
        let back = distance_of(found, freedom);
        assert!((back / t - 1.0).abs() < 1e-6, "{back} is not {t}");
    }

    /// From tables of Student's t: the two-sided 5 %, 1 % and 0.1 % points.
    #[test]
    fn tabulated_points_of_students_t_become_those_of_the_normal_distribution() {
        for (freedom, five, one, tenth) in [
            (5.0, 2.5706, 4.0321, 6.8688),
            (10.0, 2.2281, 3.1693, 4.5869),
            (30.0, 2.0423, 2.7500, 3.6460),
        ] {
            check(five, freedom, 1.9600);
            check(one, freedom, 2.5758);
            check(tenth, freedom, 3.2905);
        }
    }

    #[test]
    fn it_rises_and_stays_finite_from_nothing_to_giants() {
        for freedom in [1.0, 3.0, 11.0, 37.0, 3_700.0] {
            let mut last = 0.0;
            for exponent in -20..=300 {
                let t = 10f64.powi(exponent);
                let sigma = sigma_of(t, freedom);
                assert!(
                    sigma.is_finite() && sigma >= last && sigma <= t,
                    "{t} {freedom}: {sigma}"
                );
                last = sigma;
            }
        }
    }

    #[test]
    fn the_far_tail_goes_on_where_the_exact_one_ends() {
        for freedom in [11.0, 37.0, 370.0] {
            let mut t = 5.0;
            while StudentsT::new(0.0, 1.0, freedom).unwrap().sf(t) > SMALLEST_TAIL {
                t *= 1.1;
            }
            let (exact, approximate) = (sigma_of(t / 1.1, freedom), far_sigma_of(t / 1.1, freedom));
            assert!(
                (exact / approximate - 1.0).abs() < 0.01,
                "{freedom}: {exact} {approximate}"
            );
        }
    }
}
