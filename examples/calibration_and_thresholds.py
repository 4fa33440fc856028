"""
Calibration, thresholds and explanations
========================================

Check whether predicted probabilities match observed frequencies, choose a decision
threshold for unbalanced classes, and decompose predictions into contributions of the
modalities.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.calibration import CalibrationDisplay
from sklearn.metrics import precision_score, recall_score

import mmgraph as mg

# %%
# An unbalanced problem
# ---------------------
#
# Three of four patients with heart disease are removed from the data, so that disease
# becomes the rarer class, as in a screening. The models are small to keep the page
# fast.

data = mg.load_dataset("heart").replace(groups=None)
rng = np.random.default_rng(0)
data = data[(data.y == 0) | (rng.random(len(data)) < 0.25)]
train, test = data.split(test_size=0.4, seed=0)
print(f"{len(test)} test patients, {test.y.mean():.1%} with heart disease")

models = {
    "mmgraph": mg.FusionClassifier(
        seed=0, members=2, epochs=5, experts=("linear", "spline")
    ),
    "late fusion, logistic": mg.baselines.LateLogistic(seed=0),
    "gradient boosting": mg.baselines.HistGradientBoosting(seed=0),
}

# %%
# Calibration
# -----------
#
# In a reliability diagram, predictions near 0.3 should come true in 30% of the cases.
# The expected calibration error (ECE) is the mean distance from the diagonal. The log
# loss combines calibration and discrimination; lower is better.

fig, ax = plt.subplots(figsize=(5.5, 5), layout="constrained")
for name, model in models.items():
    model.fit(train)
    row = mg.evaluate(model, test, [0]).rows[0]
    error, loss = row["expected_calibration_error"], row["log_loss"]
    print(f"ECE, {name}: {error:.3f}, log loss: {loss:.3f}")
    probability = model.predict_proba(test)[:, 1]
    CalibrationDisplay.from_predictions(
        test.y, probability, n_bins=5, strategy="quantile", name=name, ax=ax
    )
ax.set(xlabel="predicted probability of disease", ylabel="observed frequency")

# %%
# Decision thresholds
# -------------------
#
# ``predict`` returns the most probable class, which is a threshold of 0.5 and misses
# half of the diseased patients. ``predict(balanced=True)`` weights the classes by their
# inverse frequency in training, which moves the threshold to the base rate. Where the
# costs of the two errors are known, choose the threshold from the curves, on validation
# data.

clf = models["mmgraph"]
risk = clf.predict_proba(test)[:, 1]
for name, predicted in {
    "default": clf.predict(test),
    "balanced": clf.predict(test, balanced=True),
}.items():
    recall, precision = (
        recall_score(test.y, predicted),
        precision_score(test.y, predicted),
    )
    print(f"recall, {name}: {recall:.3f}, precision: {precision:.3f}")

thresholds = np.linspace(0.02, 0.8, 60)
fig, ax = plt.subplots(figsize=(6, 3.5), layout="constrained")
for name, score in (("recall", recall_score), ("precision", precision_score)):
    ax.plot(thresholds, [score(test.y, risk > t) for t in thresholds], lw=2, label=name)
ax.axvline(0.5, color="black", ls="--", label="default")
ax.axvline(train.y.mean(), color="black", ls=":", label="balanced")
ax.set(xlabel="threshold", ylim=(0, 1.02))
ax.legend()

# %%
# Contributions of the modalities
# -------------------------------
#
# Shapley values distribute the difference between a prediction and the base value,
# which is the prediction with nothing observed, over the modalities. The model itself
# predicts from every subset, so that nothing is imputed. Each dot is a test patient
# that has the modality; red patients are diseased.

explanation = clf.explain(test)
contribution = explanation.values[:, :, 1]
total = explanation.base[1] + contribution.sum(axis=1)
print("contributions sum to the predictions:", np.allclose(total, risk, atol=1e-6))

fig, ax = plt.subplots(figsize=(6, 3.8), layout="constrained")
for row, present in enumerate(test.present.T):
    jitter = row + rng.uniform(-0.3, 0.3, present.sum())
    colors = np.where(test.y[present] == 1, "tab:red", "tab:blue")
    ax.scatter(contribution[present, row], jitter, s=10, alpha=0.6, color=colors)
ax.axvline(0, color="black", lw=0.8)
ax.set_yticks(range(len(test.modalities)), test.modalities)
ax.invert_yaxis()
ax.set_xlabel("contribution to the probability of disease")
plt.show()
