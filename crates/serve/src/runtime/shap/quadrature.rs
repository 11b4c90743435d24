//! Integrals of polynomials over [0, 1], without error beyond rounding: Gauss and Legendre's points and weights.

/// Points with their weights. With n of them, polynomials of a degree below 2 n are integrated exactly.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// Point and weight; points lie between 0 and 1, neither included, and weights are positive.
    pub points: Vec<(f64, f64)>,
}

/// More than Newton's method needs from the start that is given to it.
const STEPS_MAX: usize = 20;

impl Rule {
    /// The rule of `n` points: the roots of the Legendre polynomial of degree n, found from a close start.
    pub fn new(n: usize) -> Rule {
        let root = |place: usize| {
            let mut x = (std::f64::consts::PI * (place as f64 + 0.75) / (n as f64 + 0.5)).cos();
            for _ in 0..STEPS_MAX {
                let (value, slope) = legendre(n, x);
                let step = value / slope;
                x -= step;
                if step.abs() <= f64::EPSILON {
                    break;
                }
            }
            let (_, slope) = legendre(n, x);
            // From [-1, 1] to [0, 1]: the points are moved, the weights halved.
            ((1.0 + x) / 2.0, 1.0 / ((1.0 - x * x) * slope * slope))
        };
        Rule { points: (0..n).map(root).collect() }
    }
}

/// The Legendre polynomial of a degree above 0 at a point inside (-1, 1), and its slope there.
fn legendre(n: usize, x: f64) -> (f64, f64) {
    let (mut before, mut value) = (1.0, x);
    for k in 2..=n {
        let k = k as f64;
        (before, value) = (value, ((2.0 * k - 1.0) * x * value - (k - 1.0) * before) / k);
    }
    (value, n as f64 * (x * value - before) / (x * x - 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_below_twice_the_points_are_exact() {
        for n in [1, 2, 3, 7, 16, 64, 128] {
            let rule = Rule::new(n);
            assert!(rule.points.iter().all(|(x, w)| *x > 0.0 && *x < 1.0 && *w > 0.0), "{n}");
            for power in [0, 1, n, 2 * n - 1] {
                let sum: f64 = rule.points.iter().map(|(x, w)| w * x.powi(power as i32)).sum();
                let exact = 1.0 / (power as f64 + 1.0);
                assert!((sum / exact - 1.0).abs() < 1e-12, "{n} points, power {power}: {sum} instead of {exact}");
            }
        }
        assert!(Rule::new(0).points.is_empty());
        let (x, w) = Rule::new(2).points[1];
        assert!((x - (0.5 - 0.5 / 3f64.sqrt())).abs() < 1e-15 && (w - 0.5).abs() < 1e-15);
    }
}
