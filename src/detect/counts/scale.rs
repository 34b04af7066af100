//! A scale on which the noise of counting is the same at any rate.

/// Anscombe's transform of the rates of counted events, on which the noise of counting has standard
/// deviation 1 whatever the rate; for all else nothing.
#[derive(Debug, Clone, Copy)]
pub(in crate::detect) struct Anscombe {
    /// Over which events are counted.
    seconds: Option<f64>,
}

impl Anscombe {
    /// See `Counts::seconds`.
    pub(in crate::detect) fn new(seconds: Option<f64>) -> Self {
        Self { seconds }
    }

    /// Of a rate.
    pub(in crate::detect) fn of(self, rate: f64) -> f64 {
        match self.seconds {
            Some(seconds) => 2.0 * (rate.max(0.0) * seconds + 0.375).min(f64::MAX).sqrt(),
            None => rate,
        }
    }

    /// To a rate; what belongs to less than none is 0.
    pub(in crate::detect) fn back(self, transformed: f64) -> f64 {
        match self.seconds {
            Some(seconds) => {
                let count = ((0.5 * transformed.max(0.0)).powi(2) - 0.375).max(0.0);
                (count / seconds).min(f64::MAX)
            }
            None => transformed,
        }
    }

    /// The spread of rates that `spread` is around `centre`.
    pub(in crate::detect) fn spread_back(self, centre: f64, spread: f64) -> f64 {
        match self.seconds {
            Some(_) => 0.5 * (self.back(centre + spread) - self.back(centre - spread)),
            None => spread,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anscombes_scale_goes_both_ways() {
        let scale = Anscombe::new(Some(10.0));
        for rate in [0.0, 0.1, 3.0, 1e6, 1e300] {
            assert!((scale.back(scale.of(rate)) - rate).abs() <= 1e-9 * rate.max(0.1));
        }
        assert_eq!(scale.back(0.0), 0.0);
        assert_eq!(Anscombe::new(None).of(-3.0), -3.0);
    }
}
