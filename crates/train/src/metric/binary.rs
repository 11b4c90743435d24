//! Two classes; the score is the probability of the second. A row counts as predicted when it is above one half.

use super::{Scored, area, average_precision, steps, totals};

fn curve(s: &Scored) -> Vec<(f64, f64)> {
    steps(|row| s.y[row] == 1.0, s.scores)
}

pub(super) fn auc(s: &Scored, _: u32) -> Option<f64> {
    area(&curve(s))
}

pub(super) fn pr_auc(s: &Scored, _: u32) -> Option<f64> {
    let curve = curve(s);
    (totals(&curve).0 > 0.0).then(|| average_precision(&curve))
}

pub(super) fn logloss(s: &Scored, _: u32) -> Option<f64> {
    let cost = |(y, p): (&f64, &f64)| {
        let p = p.clamp(f64::EPSILON, 1.0 - f64::EPSILON);
        if *y == 1.0 { -p.ln() } else { -(1.0 - p).ln() }
    };
    Some(s.y.iter().zip(s.scores).map(cost).sum::<f64>() / s.y.len() as f64)
}

pub(super) fn brier(s: &Scored, _: u32) -> Option<f64> {
    Some(s.y.iter().zip(s.scores).map(|(y, p)| (p - y) * (p - y)).sum::<f64>() / s.y.len() as f64)
}

/// True and false positives, false and true negatives at one half.
struct Table {
    tp: f64,
    fp: f64,
    fn_: f64,
    tn: f64,
}

fn table(s: &Scored) -> Table {
    let mut t = Table { tp: 0.0, fp: 0.0, fn_: 0.0, tn: 0.0 };
    for (y, p) in s.y.iter().zip(s.scores) {
        match (*y == 1.0, *p > 0.5) {
            (true, true) => t.tp += 1.0,
            (false, true) => t.fp += 1.0,
            (true, false) => t.fn_ += 1.0,
            (false, false) => t.tn += 1.0,
        }
    }
    t
}

/// 0 where there is nothing to divide by, as scikit-learn's `zero_division=0`.
fn ratio(above: f64, below: f64) -> Option<f64> {
    Some(if below == 0.0 { 0.0 } else { above / below })
}

pub(super) fn accuracy(s: &Scored, _: u32) -> Option<f64> {
    let t = table(s);
    ratio(t.tp + t.tn, s.y.len() as f64)
}

pub(super) fn balanced_accuracy(s: &Scored, _: u32) -> Option<f64> {
    let t = table(s);
    let of_class = [(t.tp, t.tp + t.fn_), (t.tn, t.tn + t.fp)];
    let present: Vec<f64> = of_class.iter().filter(|c| c.1 > 0.0).map(|c| c.0 / c.1).collect();
    ratio(present.iter().sum(), present.len() as f64)
}

pub(super) fn precision(s: &Scored, _: u32) -> Option<f64> {
    let t = table(s);
    ratio(t.tp, t.tp + t.fp)
}

pub(super) fn recall(s: &Scored, _: u32) -> Option<f64> {
    let t = table(s);
    ratio(t.tp, t.tp + t.fn_)
}

pub(super) fn f1(s: &Scored, _: u32) -> Option<f64> {
    let t = table(s);
    ratio(2.0 * t.tp, 2.0 * t.tp + t.fp + t.fn_)
}

pub(super) fn mcc(s: &Scored, _: u32) -> Option<f64> {
    let t = table(s);
    let below = ((t.tp + t.fp) * (t.tp + t.fn_) * (t.tn + t.fp) * (t.tn + t.fn_)).sqrt();
    ratio(t.tp * t.tn - t.fp * t.fn_, below)
}

/// The widest gap between the two classes' score distributions: the Kolmogorov-Smirnov statistic.
pub(super) fn ks(s: &Scored, _: u32) -> Option<f64> {
    let curve = curve(s);
    let (positives, negatives) = totals(&curve);
    if positives == 0.0 || negatives == 0.0 {
        return None;
    }
    let (mut p, mut n, mut widest) = (0.0, 0.0, 0.0f64);
    for step in &curve {
        p += step.0;
        n += step.1;
        widest = widest.max((p / positives - n / negatives).abs());
    }
    Some(widest)
}

/// How much more frequent the second class is among the `percent` highest scores than among all. Equal scores at the border count by their share.
pub(super) fn lift(s: &Scored, percent: u32) -> Option<f64> {
    let positives = s.y.iter().filter(|y| **y == 1.0).count() as f64;
    if positives == 0.0 {
        return None;
    }
    let rows = s.y.len() as f64;
    let wanted = (rows * f64::from(percent) / 100.0).ceil();
    let (mut taken, mut found) = (0.0, 0.0);
    for (p, n) in curve(s) {
        let part = (wanted - taken).min(p + n);
        found += p * part / (p + n);
        taken += part;
        if taken >= wanted {
            break;
        }
    }
    Some(found / wanted / (positives / rows))
}

/// The highest recall at any threshold whose precision is at least `percent`; 0 if there is none.
pub(super) fn recall_at_precision(s: &Scored, percent: u32) -> Option<f64> {
    let curve = curve(s);
    let (positives, _) = totals(&curve);
    if positives == 0.0 {
        return None;
    }
    let (mut tp, mut all, mut best) = (0.0, 0.0, 0.0f64);
    for (p, n) in &curve {
        tp += p;
        all += p + n;
        if tp / all >= f64::from(percent) / 100.0 {
            best = best.max(tp / positives);
        }
    }
    Some(best)
}
