"""
Train on an incomplete cohort from a CSV file
=============================================

From a CSV file with missing cells, missing laboratory panels and categorical columns to
a classifier with scores and explanations. Needs pandas: ``pip install ".[pandas]"``.
"""

import io

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import mmgraph as mg

# %%
# A cohort
# --------
#
# The file is generated so that the example is self-contained: 600 emergency admissions,
# whose risk of death increases with age and with the severity of the disease, which the
# measurements reflect. 40% had no blood gas analysis, 30% no imaging, and single cells
# are missing everywhere. C-reactive protein below the detection limit is written
# ``<5``, as laboratories do.


def make_csv(num_patients=600, seed=0):
    """Return the cohort as CSV text."""
    rng = np.random.default_rng(seed)
    severity = rng.normal(size=num_patients)
    age = rng.normal(64, 14, num_patients)
    risk = 1 / (1 + np.exp(-(1.6 * severity + (age - 64) / 14 - 0.8)))
    crp = np.exp(rng.normal(3 + 0.5 * severity, 1))
    frame = pd.DataFrame(
        {
            "age": age.round(),
            "sex": rng.choice(["f", "m"], num_patients),
            "admitted_by": rng.choice(["ambulance", "referral", "self"], num_patients),
            "systolic": (125 - 14 * severity + rng.normal(0, 12, num_patients)).round(),
            "pulse": (85 + 8 * severity + rng.normal(0, 12, num_patients)).round(),
            "lactate": np.exp(rng.normal(0.3 + 0.5 * severity, 0.3)).round(1),
            "ph": rng.normal(7.38 - 0.04 * severity, 0.05).round(2),
            "infiltrate": np.where(rng.normal(severity) > 0.5, "yes", "no"),
        }
    )
    frame = frame.mask(rng.random(frame.shape) < 0.05)
    frame.loc[rng.random(num_patients) < 0.4, ["lactate", "ph"]] = None
    frame.loc[rng.random(num_patients) < 0.3, "infiltrate"] = None
    frame["crp"] = np.where(crp < 5, "<5", crp.round(1).astype(str))
    frame["died"] = (rng.random(num_patients) < risk).astype(int)
    frame.insert(0, "patient", [f"P{i:03}" for i in range(num_patients)])
    return frame.to_csv(index=False)


frame = pd.read_csv(io.StringIO(make_csv()))
print(frame.head().to_string(index=False))

# %%
# Clean the columns
# -----------------
#
# Numeric columns must be numeric. Values below the detection limit become half the
# limit.

frame["crp"] = pd.to_numeric(frame["crp"].replace("<5", "2.5"))

# %%
# Group columns into modalities
# -----------------------------
#
# A modality holds the columns that are measured together, and is missing where all of
# its cells are. An estimator encodes a column of strings as one
# indicator per category.

modalities = {
    "admission": ["age", "sex", "admitted_by"],
    "vital signs": ["systolic", "pulse"],
    "crp": ["crp"],
    "blood gas": ["lactate", "ph"],
    "chest x-ray": ["infiltrate"],
}
data = mg.MultimodalData.from_pandas(frame, modalities, y="died", ids="patient")
print(data)
print("columns of admission:", data.columns["admission"].names)

# %%
# Fit and evaluate
# ----------------
#
# ``evaluate`` scores the same model on the data as observed, with half of the
# modalities removed at random, with the admission data only, and without the blood gas
# analysis.

train, test = data.split(test_size=0.3, seed=0)
clf = mg.FusionClassifier(seed=0, members=2, epochs=10, experts=("linear", "spline"))
clf.fit(train)
scenarios = [0, 0.5, mg.missing.only("admission"), mg.missing.leave_out("blood gas")]
table = pd.DataFrame(mg.evaluate(clf, test, scenarios).rows).set_index("missing")
print(f"base rate: {test.y.mean():.3f}")
print(table[["auroc", "balanced_accuracy", "log_loss"]].round(3))

# %%
# A new patient without laboratory values
# ---------------------------------------
#
# New data needs no label, and whole modalities may be absent.

known = {name: modalities[name] for name in ("admission", "vital signs")}
new = pd.DataFrame(
    {"age": [81], "sex": ["f"], "admitted_by": ["ambulance"], "systolic": [88]}
).assign(pulse=118)
risk = clf.predict_proba(mg.MultimodalData.from_pandas(new, known))[0, 1]
print(f"risk of the new patient: {risk:.2f}")

# %%
# Explain predictions
# -------------------
#
# The Shapley value of a modality is its contribution to the predicted probability.
# Contributions of a patient and the base value sum to the prediction; a missing
# modality contributes exactly 0. Left: mean absolute contribution over the test
# patients that have the modality. Right: the test patient with the highest predicted
# risk.

explanation = clf.explain(test)
values = explanation.values[:, :, 1]  # contribution to the probability of death
importance = np.abs(values).sum(axis=0) / test.present.sum(axis=0)
patient = clf.predict_proba(test)[:, 1].argmax()
fig, axes = plt.subplots(1, 2, figsize=(8, 3.5), sharey=True, layout="constrained")
axes[0].barh(explanation.modalities, importance)
axes[0].set(title="All test patients", xlabel="mean |contribution|")
signs = np.where(values[patient] > 0, "tab:red", "tab:blue")
axes[1].barh(explanation.modalities, values[patient], color=signs)
axes[1].set(title=f"Patient {test.ids[patient]}", xlabel="contribution to risk")
axes[1].axvline(0, color="black", lw=0.8)
axes[0].invert_yaxis()
plt.show()
