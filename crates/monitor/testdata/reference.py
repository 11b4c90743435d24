"""Writes reference.json: what scipy and scikit-learn say about the statistics of this crate.

    python -m venv /tmp/venv && /tmp/venv/bin/pip install numpy scipy scikit-learn && /tmp/venv/bin/python reference.py > reference.json
"""

import json

import numpy as np
import scipy
import scipy.stats
import sklearn
import sklearn.metrics

rng = np.random.default_rng(7)


def ks_case(reference, window):
    found = scipy.stats.ks_2samp(reference, window, method="asymp")
    n, m = len(reference), len(window)
    limit = scipy.stats.kstwobign.sf(found.statistic * np.sqrt(n * m / (n + m)))
    return {"reference": sorted(reference.tolist()), "window": window.tolist(), "d": found.statistic, "p_limit": limit, "p_scipy": found.pvalue}


def chi2_case(reference, window):
    found = scipy.stats.chi2_contingency([reference, window], correction=False)
    return {"reference": reference, "window": window, "statistic": found.statistic, "p": found.pvalue}


def quality_case(outcome, score):
    clipped = np.stack([1 - score, score], axis=1)
    return {
        "outcome": outcome.tolist(),
        "score": score.tolist(),
        "auc": sklearn.metrics.roc_auc_score(outcome, score),
        "logloss": sklearn.metrics.log_loss(outcome, clipped),
        "accuracy": sklearn.metrics.accuracy_score(outcome, score > 0.5),
    }


def error_case(outcome, score):
    return {
        "outcome": outcome.tolist(),
        "score": score.tolist(),
        "rmse": sklearn.metrics.root_mean_squared_error(outcome, score),
        "mae": sklearn.metrics.mean_absolute_error(outcome, score),
    }


outcomes = rng.integers(0, 2, 200)
scores = np.clip(np.round(0.3 * outcomes + 0.7 * rng.random(200), 2), 0.01, 0.99)
values = rng.normal(10, 3, 100)
document = {
    "versions": {"scipy": scipy.__version__, "scikit-learn": sklearn.__version__, "numpy": np.__version__},
    "kolmogorov": [[x, scipy.special.kolmogorov(x)] for x in [0.2, 0.4, 0.6, 0.9, 0.999, 1.0, 1.1, 1.36, 1.63, 2.5, 5.0]],
    "ks": [
        ks_case(rng.normal(0, 1, 300), rng.normal(0, 1, 250)),
        ks_case(rng.normal(0, 1, 300), rng.normal(0.3, 1, 400)),
        ks_case(rng.integers(0, 6, 200).astype(float), rng.integers(0, 7, 300).astype(float)),
        ks_case(rng.exponential(1, 150), rng.exponential(3, 200)),
    ],
    "chi2": [
        chi2_case([120, 300, 80, 500], [30, 90, 20, 110]),
        chi2_case([120, 300, 80, 500], [90, 30, 110, 20]),
        chi2_case([400, 600], [45, 55]),
    ],
    "quality": [quality_case(outcomes, scores)],
    "errors": [error_case(values, values + rng.normal(0, 1, 100))],
}
print(json.dumps(document))
