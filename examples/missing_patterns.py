"""
Missing-data patterns and robustness curves
===========================================

Remove modalities completely at random, by hospital, depending on observed values or on
the label, measure how much a model loses under each pattern, and save the masks.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import mmgraph as mg
from mmgraph import missing

data = mg.load_dataset("heart")
train, test = data.replace(groups=None).split(test_size=0.3, seed=0)
test = test.replace(groups=data.groups[np.searchsorted(data.ids, test.ids)])

# %%
# Patterns
# --------
#
# ``mcar``: each modality is removed independently with the same probability. ``block``:
# a modality is removed from a whole group, as when a hospital lacks a device. ``mar``:
# the probability depends on the values of one modality, which always stays. ``mnar``:
# it depends on the label, so that missingness itself becomes informative.
#
# A plan is one random draw of a pattern. It never restores what the data lack, and
# keeps at least one modality per sample.

patterns = {
    "mcar": missing.mcar(0.5),
    "block": missing.block(0.5),
    "mar": missing.mar(0.5, on="history"),
    "mnar": missing.mnar(0.5),
}
fig, axes = plt.subplots(1, 4, figsize=(8, 4), sharey=True, layout="constrained")
by_hospital = np.argsort(test.groups, kind="stable")
for ax, (name, pattern) in zip(axes, patterns.items(), strict=True):
    plan = pattern.plan(test, seed=0)
    print(plan)
    ax.imshow(
        plan.present[by_hospital], aspect="auto", interpolation="none", cmap="Blues"
    )
    ax.set_title(name)
    ax.set_xticks(range(len(data.modalities)), data.modalities, rotation=90)
axes[0].set_ylabel("test patients, by hospital (blue: observed)")

# %%
# Robustness curves
# -----------------
#
# ``evaluate`` draws three plans per pattern and averages the scores. Removal completely
# at random costs most here; under ``mar`` the history, an informative modality, always
# stays. The model was trained on the natural missingness alone, so each curve also
# shows how sensitive it is to a change of the mechanism.

options = {"seed": 0, "members": 2, "epochs": 5, "experts": ("linear", "spline")}
clf = mg.FusionClassifier(**options).fit(train)
rates = (0.0, 0.25, 0.5, 0.75)
families = {
    "mcar": missing.mcar,
    "block": missing.block,
    "mar": lambda rate: missing.mar(rate, on="history"),
    "mnar": missing.mnar,
}
fig, ax = plt.subplots(figsize=(6, 4), layout="constrained")
for name, family in families.items():
    rows = mg.evaluate(clf, test, [family(rate) for rate in rates]).rows
    auroc = [row["auroc"] for row in rows]
    print(f"AUROC, {name}: " + " ".join(f"{value:.3f}" for value in auroc))
    ax.plot(rates, auroc, marker="o", label=name)
ax.set(xlabel="rate of removal", ylabel="AUROC on test patients")
ax.legend()

# %%
# One modality at a time
# ----------------------
#
# ``leave_out`` and ``only`` remove chosen modalities. Losses are small where modalities
# overlap, and where few patients have the modality.

scenarios = [missing.natural(), *(missing.leave_out(m) for m in data.modalities)]
rows = mg.evaluate(clf, test, scenarios).rows
loss = [rows[0]["auroc"] - row["auroc"] for row in rows[1:]]
fig, ax = plt.subplots(figsize=(6, 3.2), layout="constrained")
ax.bar_label(ax.barh(data.modalities, loss), fmt="%.3f", padding=3)
ax.axvline(0, color="black", lw=0.8)
ax.margins(x=0.15)
ax.set(xlabel="loss of AUROC without the modality")
ax.invert_yaxis()

# %%
# Save the masks
# --------------
#
# A saved plan reproduces an evaluation exactly; its hash identifies it in a report.

plan = patterns["mcar"].plan(test, seed=0)
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "mask.json"
    plan.save(path)
    same = missing.MaskPlan.load(path)
print("hash:", same.hash[:12], "equal:", same.hash == plan.hash)
print(f"modalities left: {plan.apply(test).present.mean():.0%} of all cells")
plt.show()
