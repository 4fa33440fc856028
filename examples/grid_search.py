"""
Cross-validation and grid search with scikit-learn
==================================================

``MultimodalData`` can be indexed and split by scikit-learn, so that cross-validation
with groups, grid search and the display classes work as for arrays.
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

# %%
# Cross-validation, at random and by hospital
# -------------------------------------------
#
# The estimator reads labels and groups from the data; scikit-learn needs them passed
# explicitly. Random folds mix the four hospitals. Leaving one hospital out estimates
# the score on a new hospital, which is lower. The ensemble is small and has linear base
# learners only, to keep the page fast.

data = mg.load_dataset("heart")
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
    print(
        f"AUROC, {name}: {values.mean():.3f} ({', '.join(f'{v:.2f}' for v in values)})"
    )

# %%
# Grid search over graphs
# -----------------------
#
# Any argument of the estimator can be searched, the graph included. In the synthetic
# data set ``synergy``, the label depends on a product of two modalities: each is weakly
# informative, and only a model with cross-modal interaction can use both fully. The
# schemas differ in their edges: none (late fusion), modalities to a fuse node (star),
# or additionally between modalities (complete). Test samples take no part in the
# search.

synergy = mg.load_dataset("synergy")
train, test = synergy.split(test_size=0.3, seed=0)
modalities = synergy.schema.modalities
schemas = {
    "late": mg.Schema.late(modalities),
    "star": mg.Schema.star(modalities),
    "complete": mg.Schema.complete(modalities),
}
search = GridSearchCV(
    mg.FusionClassifier(seed=0, members=2, epochs=15, experts=("linear",)),
    {"schema": list(schemas.values())},
    cv=StratifiedKFold(2, shuffle=True, random_state=0),
    scoring="neg_log_loss",
)
search.fit(train, train.y)
losses = -search.cv_results_["mean_test_score"]
for name, loss in zip(schemas, losses, strict=True):
    print(f"log loss, {name}: {loss:.3f}")

fig, ax = plt.subplots(figsize=(6, 3), layout="constrained")
ax.bar_label(
    ax.barh(list(schemas), losses), fmt="%.3f", label_type="center", color="white"
)
ax.axvline(np.log(2), color="gray", ls=":", label="constant prediction")
ax.set(xlabel="cross-validated log loss (lower is better)", xlim=(0, 1.1))
ax.legend(loc="center right")

# %%
# Score the best model on the test samples
# ----------------------------------------

fig, ax = plt.subplots(figsize=(5, 4.5), layout="constrained")
for name, schema in schemas.items():
    if schema == search.best_params_["schema"]:
        print(f"best: {name}")
curve = RocCurveDisplay.from_estimator(
    search.best_estimator_, test, test.y, ax=ax, plot_chance_level=True
)
print(f"AUROC on test samples: {curve.roc_auc:.3f}")
plt.show()
