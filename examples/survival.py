"""
Survival curves from incomplete examinations
============================================

Predict the time to death after a heart attack, under censoring and with missing
examinations, and compare the predicted curves of three risk groups with what happened.

Needs scikit-survival: ``pip install -e ".[pandas,survival]"``.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.model_selection import train_test_split
from sksurv.datasets import load_whas500

import mmgraph as mg

# %%
# The Worcester Heart Attack Study
# --------------------------------
#
# 500 patients, of whom 215 died; the others were alive at their last visit. Four
# modalities are known at admission. 40% of them are removed at random. Training and
# test patients are balanced by event.

frame, target = load_whas500()
frame["died"], frame["days"] = target["fstat"], target["lenfol"]
modalities = {
    "patient": ["age", "gender", "bmi"],
    "vitals": ["hr", "sysbp", "diasbp"],
    "history": ["afb", "chf", "cvd"],
    "infarction": ["sho", "av3", "miord", "mitype"],
}
data = mg.MultimodalData.from_pandas(frame, modalities, y=["died", "days"])
data = mg.missing.mcar(0.4).plan(data, seed=0).apply(data)
rows, held_out = train_test_split(
    np.arange(len(data)), test_size=0.4, stratify=data.y[:, 0], random_state=0
)
train, test = data[rows], data[held_out]

model = mg.FusionSurvival(members=2, epochs=3, experts=("linear", "spline"), seed=0)
model.fit(train)
print(mg.evaluate(model, test, [0]))

# %%
# Risk groups
# -----------
#
# Test patients are divided into thirds by their predicted risk. The mean of the
# predicted curves of a third (dashed) should follow its Kaplan-Meier curve.

years = np.linspace(0, 5, 101)
risk = model.predict(test)
third = np.searchsorted(np.quantile(risk, [1 / 3, 2 / 3]), risk)
predicted = model.predict_survival_function(test, years * 365.25)

fig, ax = plt.subplots(figsize=(6, 4), layout="constrained")
for group, (name, color) in enumerate(
    (("low risk", "#2a7f62"), ("medium", "#c98a1b"), ("high risk", "#b03a48"))
):
    rows = third == group
    observed = mg.metrics.kaplan_meier(*test.y[rows].T)
    ax.step(years, observed(years * 365.25), where="post", color=color, label=name)
    ax.plot(years, predicted[rows].mean(0), "--", color=color)
ax.plot([], [], "--", color="gray", label="predicted")
ax.set(xlabel="years after the heart attack", ylabel="alive", ylim=(0, 1))
ax.legend(loc="lower left", frameon=False)

# %%
# What a curve rests on
# ---------------------
#
# Shapley values divide the log relative hazard of one patient among the modalities;
# a missing modality has exactly 0.

patient = test[[int(risk.argmax())]]
explanation = model.explain(patient)
for name, value in zip(
    explanation.modalities, explanation.values[0, :, 0], strict=True
):
    print(f"{name:10} {value:+.2f}")

plt.show()
