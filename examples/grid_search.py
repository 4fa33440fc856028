"""
Cross-validation and grid search with scikit-learn
==================================================

``MultimodalData`` can be indexed and split by scikit-learn, so that cross-validation with
groups, grid search and the display classes work as for arrays.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.metrics import RocCurveDisplay
from sklearn.model_selection import (
    GridSearchCV,
    LeaveOneGroupOut,
    StratifiedKFold,
    cross_val_score,
)

import mmgraph as mg

data = mg.load_dataset("heart")
train, test = data.replace(groups=None).split(test_size=0.3, seed=0)

# %%
# Cross-validation, at random and by hospital
# -------------------------------------------
#
# The estimator reads labels and groups from the data; scikit-learn needs them passed
# explicitly. Random folds mix the four hospitals. Leaving one hospital out estimates the
# score on a new hospital, which is lower. The ensemble is small and has linear base
# learners only, to keep the page fast.

clf = mg.FusionClassifier(seed=0, members=2, epochs=3, experts=("linear",))
random_folds = StratifiedKFold(4, shuffle=True, random_state=0)
scores = {
    "random folds": cross_val_score(
        clf, data.replace(groups=None), data.y, cv=random_folds, scoring="roc_auc"
    ),
    "leave one hospital out": cross_val_score(
        clf, data, data.y, groups=data.groups, cv=LeaveOneGroupOut(), scoring="roc_auc"
    ),
}
for name, values in scores.items():
    print(f"AUROC, {name}: {values.mean():.3f} ({', '.join(f'{v:.2f}' for v in values)})")

# %%
# Grid search
# -----------
#
# ``experts`` selects the kinds of base learners, ``missing_rate`` is the rate of modality
# dropout in training. The log loss scores probabilities and is less noisy than accuracy.
# Test patients take no part in the search.

grid = {
    "experts": [("linear",), ("linear", "spline")],
    "missing_rate": [0.2, 0.5],
}
search = GridSearchCV(
    clf,
    grid,
    cv=StratifiedKFold(2, shuffle=True, random_state=0),
    scoring="neg_log_loss",
)
search.fit(train, train.y)
print("best:", search.best_params_)

losses = -search.cv_results_["mean_test_score"].reshape(2, 2)
fig, ax = plt.subplots(figsize=(6, 3.5), layout="constrained")
for shift, rate, values in zip((-0.2, 0.2), grid["missing_rate"], losses.T, strict=True):
    bars = ax.bar(np.arange(2) + shift, values, 0.4, label=f"missing_rate={rate}")
    ax.bar_label(bars, fmt="%.3f")
ax.set_xticks(range(2), [" + ".join(kinds) for kinds in grid["experts"]])
ax.set(ylabel="log loss (lower is better)", ylim=(0.9 * losses.min(), 1.1 * losses.max()))
ax.legend(loc="upper center", ncols=2)

# %%
# Score the best model on the test patients
# -----------------------------------------

best = search.best_estimator_
auroc = mg.evaluate(best, test, [0]).rows[0]["auroc"]
print(f"AUROC on test patients: {auroc:.3f}")
fig, ax = plt.subplots(figsize=(5, 4.5), layout="constrained")
RocCurveDisplay.from_estimator(best, test, test.y, ax=ax, plot_chance_level=True)
plt.show()
