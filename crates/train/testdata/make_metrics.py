"""Writes metrics.json: rows with scikit-learn's values of every metric.

    python -m venv venv && venv/bin/pip install scikit-learn numpy && venv/bin/python make_metrics.py
"""
import json
import math
import pathlib
import warnings

import numpy as np
import sklearn
from sklearn import metrics as m

warnings.simplefilter("ignore")
rng = np.random.default_rng(7)


def binary(y, p):
    y, p = np.asarray(y), np.asarray(p)
    said = (p > 0.5).astype(int)
    fpr, tpr, _ = m.roc_curve(y, p, drop_intermediate=False)
    out = {
        "auc": m.roc_auc_score(y, p),
        "pr_auc": m.average_precision_score(y, p),
        "logloss": m.log_loss(y, p, labels=[0, 1]),
        "accuracy": m.accuracy_score(y, said),
        "balanced_accuracy": m.balanced_accuracy_score(y, said),
        "precision": m.precision_score(y, said, zero_division=0),
        "recall": m.recall_score(y, said, zero_division=0),
        "f1": m.f1_score(y, said, zero_division=0),
        "ks": np.max(np.abs(tpr - fpr)),
        "brier": m.brier_score_loss(y, p),
        "mcc": m.matthews_corrcoef(y, said),
    }
    precision, recall, _ = m.precision_recall_curve(y, p)
    for n in (50, 75, 90):
        out[f"recall_at_precision_{n}"] = recall[precision >= n / 100].max()
    # Lift has no function in scikit-learn: the share of positives among the top rows, rows tied at the border by their share.
    for n in (10, 33):
        wanted = math.ceil(len(y) * n / 100)
        border = np.sort(p)[::-1][wanted - 1]
        above, at = p > border, p == border
        found = y[above].sum() + y[at].mean() * (wanted - above.sum())
        out[f"lift_{n}"] = found / wanted / y.mean()
    return dict(task="binary", y=y.tolist(), scores=p.tolist(), outputs=1, group=[0] * len(y), expected=out)


def multiclass(y, p):
    said = p.argmax(axis=1)
    return dict(
        task="multiclass",
        y=y.tolist(),
        scores=p.ravel().tolist(),
        outputs=p.shape[1],
        group=[0] * len(y),
        expected={
            "accuracy": m.accuracy_score(y, said),
            "balanced_accuracy": m.balanced_accuracy_score(y, said),
            "logloss": m.log_loss(y, p, labels=list(range(p.shape[1]))),
            "f1_macro": m.f1_score(y, said, average="macro", zero_division=0),
            "auc_ovr": m.roc_auc_score(y, p, multi_class="ovr", average="macro"),
        },
    )


def regression(y, p):
    return dict(
        task="regression",
        y=y.tolist(),
        scores=p.tolist(),
        outputs=1,
        group=[0] * len(y),
        expected={
            "rmse": m.root_mean_squared_error(y, p),
            "mae": m.mean_absolute_error(y, p),
            "r2": m.r2_score(y, p),
            "mape": m.mean_absolute_percentage_error(y, p),
            "medae": m.median_absolute_error(y, p),
        },
    )


def ranking(y, p, group):
    parts = [(y[group == g], p[group == g]) for g in np.unique(group)]

    def mean(f):
        return float(np.mean([f(a, b) for a, b in parts]))

    def reciprocal(a, b):
        if not (a > 0).any():
            return 0.0
        top = b[a > 0].max()
        return 1 / (1 + ((b > top) | ((b == top) & (a <= 0))).sum())

    out = {
        "ndcg": mean(lambda a, b: m.ndcg_score([a], [b])),
        "map": mean(lambda a, b: m.average_precision_score(a > 0, b)),
        "mrr": mean(reciprocal),
    }
    for k in (1, 3, 5, 10):
        out[f"ndcg_{k}"] = mean(lambda a, b: m.ndcg_score([a], [b], k=k))
    return dict(task="ranking", y=y.tolist(), scores=p.tolist(), outputs=1, group=group.tolist(), expected=out)


cases = []
for rows, share, rounding in [(400, 0.5, None), (300, 0.1, 2), (250, 0.3, 1), (60, 0.5, 0), (7, 0.4, None)]:
    y = (rng.random(rows) < share).astype(int)
    y[:2] = [0, 1]
    p = 1 / (1 + np.exp(-(1.5 * y - 1 + rng.normal(size=rows))))
    cases.append(binary(y, p if rounding is None else p.round(rounding)))
cases.append(binary([0, 1, 0, 1], [0.0, 1.0, 0.0, 1.0]))
cases.append(binary([0, 1, 0, 1], [0.5, 0.5, 0.5, 0.5]))
cases.append(binary([0, 0, 0, 1], [0.1, 0.2, 0.3, 0.4]))
for rows, classes, rounding in [(300, 3, None), (200, 5, 1), (90, 4, 2)]:
    y = rng.integers(0, classes, rows)
    y[:classes] = range(classes)
    z = rng.normal(size=(rows, classes)) + 1.2 * np.eye(classes)[y]
    p = np.exp(z)
    if rounding is not None:
        # Many ties: weights are rounded before they are made to add up to one.
        p = p.round(rounding) + 0.5
    p /= p.sum(axis=1, keepdims=True)
    cases.append(multiclass(y, p))
for rows in (301, 200, 2):
    y = rng.normal(size=rows) * 10 + 3
    y[0] = 0.0
    cases.append(regression(y, y + rng.normal(size=rows)))
cases.append(regression(np.array([2.0, 2.0, 2.0]), np.array([2.0, 2.0, 3.0])))
for rows, groups, rounding in [(400, 30, None), (300, 25, 1), (120, 6, 0)]:
    group = np.sort(rng.integers(0, groups, rows))
    group = np.concatenate([np.repeat(np.arange(groups), 2), group])
    rng.shuffle(group)
    y = rng.choice([0, 0, 0, 1, 2, 3], size=len(group)).astype(float)
    p = y + rng.normal(size=len(group)) * 2
    cases.append(ranking(y, p if rounding is None else p.round(rounding), group))

here = pathlib.Path(__file__).parent
text = json.dumps({"scikit_learn": sklearn.__version__, "cases": cases}, default=float)
(here / "metrics.json").write_text(text + "\n")
print(sum(len(c["expected"]) for c in cases), "values of", len(cases), "cases,", len(text), "bytes")
