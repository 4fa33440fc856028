"""
Medical benchmark: heart disease at four hospitals
==================================================

Compare mmgraph with common baselines on 920 incomplete patient records, with two splits
that measure different things: patients of known hospitals, and patients of a hospital
that no model was trained on.
"""

import matplotlib.pyplot as plt
import numpy as np

import mmgraph as mg
from mmgraph import baselines

data = mg.load_dataset("heart")
hospitals = np.unique(data.groups)

# %%
# Missing rates and base rates by hospital
# ----------------------------------------
#
# Both depend on the hospital: nine of ten Swiss patients are diseased, and three of the
# hospitals rarely do fluoroscopy. Which examinations a patient had is therefore
# informative about the hospital, and through it about the disease.

print(f"{'hospital':<14}{'patients':>9}{'diseased':>9}  missing")
for hospital in hospitals:
    part = data[data.groups == hospital]
    rates = zip(data.modalities, 1 - part.present.mean(axis=0), strict=True)
    missing = ", ".join(f"{name} {rate:.0%}" for name, rate in rates if rate >= 0.02)
    print(f"{hospital:<14}{len(part):>9}{part.y.mean():>9.1%}  {missing}")

# %%
# Models
# ------
#
# All models get the same samples and the same masks. The classifier has two ensemble
# members and no tree-based learners here, so that one fit takes about a second; the
# defaults reach slightly higher scores.


def make_models():
    """Return the models to compare, unfitted."""
    return {
        "mmgraph": mg.FusionClassifier(
            seed=0, members=2, epochs=5, experts=("linear", "spline")
        ),
        "late fusion, logistic": baselines.LateLogistic(seed=0),
        "mean imputation, logistic": baselines.MeanLogistic(seed=0),
        "gradient boosting": baselines.HistGradientBoosting(seed=0),
        "concatenation, MLP": baselines.ConcatMLPBaseline(seed=0),
    }


# %%
# Within hospitals
# ----------------
#
# Patients of all four hospitals are in both parts. At test, 0 to 70% of the observed
# modalities are removed completely at random.

rates = (0, 0.3, 0.5, 0.7)
train, test = data.replace(groups=None).split(test_size=0.3, seed=0)
print(f"test: {len(test)} patients, {test.y.mean():.1%} diseased")
within = {
    name: [row["auroc"] for row in mg.evaluate(model.fit(train), test, rates).rows]
    for name, model in make_models().items()
}

# %%
# New hospital
# ------------
#
# Each hospital is held out once; the score is the mean AUROC of the four.

by_hospital = {name: [] for name in within}
for hospital in hospitals:
    known, new = data[data.groups != hospital], data[data.groups == hospital]
    for name, model in make_models().items():
        rows = mg.evaluate(model.fit(known), new, rates).rows
        by_hospital[name].append([row["auroc"] for row in rows])
new_hospital = {name: np.mean(scores, axis=0) for name, scores in by_hospital.items()}

# %%
# Results
# -------
#
# A new hospital costs every model about 0.1 AUROC, more than the models differ while
# nothing is removed. Once examinations are removed, mean imputation and gradient
# boosting fall behind. One split cannot separate models that are within 0.01 of each
# other: on the new hospital, the MLP is ahead with nothing removed and mmgraph with 70%
# removed.

print(f"{'AUROC, removed: none / 50%':<28}{'within hospitals':>18}{'new hospital':>18}")
for name in within:
    a, b = within[name], new_hospital[name]
    print(f"{name:<28}{a[0]:>10.3f} / {a[2]:.3f}{b[0]:>10.3f} / {b[2]:.3f}")

fig, axes = plt.subplots(1, 2, figsize=(8, 4), sharey=True, layout="constrained")
titles = "Within hospitals", "New hospital"
for ax, scores, title in zip(axes, (within, new_hospital), titles, strict=True):
    for name, values in scores.items():
        style = {"lw": 3, "color": "black"} if name == "mmgraph" else {"marker": "o"}
        ax.plot(rates, values, label=name, **style)
    ax.set(title=title, xlabel="share of modalities removed")
axes[0].set_ylabel("AUROC")
fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
plt.show()
