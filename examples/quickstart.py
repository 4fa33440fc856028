"""
Quickstart
==========

Train a classifier on 920 cardiology patients, most of whom lack at least one of six
examinations, measure what each further examination is worth, predict for patients with
any subset of them, and save the model.
"""

import tempfile

import matplotlib.pyplot as plt

import mmgraph as mg

# %%
# Load the data
# -------------
#
# A data set has one column per modality. Each column lists how often it is missing.

data = mg.load_dataset("heart")
print(data)

# %%
# Split into training and test patients
# -------------------------------------
#
# The patients come from four hospitals. By default, ``split`` keeps all patients of a
# hospital on one side, which measures how a model transfers to a new hospital. Here the
# groups are removed: training and test patients come from the same four hospitals, and
# the classes are balanced alike. :doc:`medical_benchmark` compares the two questions.

train, test = data.replace(groups=None).split(test_size=0.25, seed=0)
print(f"training: {len(train)} patients, {train.y.mean():.1%} with heart disease")
print(f"test: {len(test)} patients, {test.y.mean():.1%} with heart disease")

# %%
# Fit
# ---
#
# Nothing is imputed, and patients with missing examinations are kept. The default is an
# ensemble of eight graph networks and up to 80 epochs; less keeps this page fast.

clf = mg.FusionClassifier(seed=0, members=2, epochs=10).fit(train)

# %%
# What each further examination adds
# ----------------------------------
#
# The fitted model predicts from any subset of the modalities, so one model is enough to
# follow a patient through the examinations. AUROC is 0.5 for random guessing.

steps = {
    "history": ["history"],
    "+ rest exam, lab": ["history", "rest_exam", "lab"],
    "+ exercise ECG": ["history", "rest_exam", "lab", "exercise_ecg"],
    "+ imaging": list(data.modalities),
}
result = mg.evaluate(clf, test, [mg.missing.only(names) for names in steps.values()])
auroc = [row["auroc"] for row in result.rows]
for step, value in zip(steps, auroc, strict=True):
    print(f"AUROC {step}: {value:.3f}")

fig, ax = plt.subplots(figsize=(6, 3.5), layout="constrained")
bars = ax.barh(list(steps), auroc, color="tab:blue")
ax.bar_label(bars, fmt="%.3f", padding=4)
ax.invert_yaxis()
ax.set(xlim=(0.5, 1), xlabel="AUROC on test patients", title="Heart disease")

# %%
# Predict for single patients
# ---------------------------
#
# Class probabilities for three test patients with everything that was observed, and
# from the history alone:

print(clf.predict_proba(test[:3]).round(2))
print(clf.predict_proba(test[:3].select(["history"])).round(2))

# %%
# Save and load
# -------------

with tempfile.TemporaryDirectory() as folder:
    clf.save_pretrained(folder)
    loaded = mg.FusionClassifier.from_pretrained(folder)
same = (loaded.predict_proba(test) == clf.predict_proba(test)).all()
print("The loaded model predicts the same:", same)
plt.show()
