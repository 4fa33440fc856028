"""
A folder of recordings, one subject left out
============================================

Six people wear four sensors: acceleration at 50 Hz, pressure at 10 Hz, skin conductance
at 4 Hz and heart rate at 1 Hz, one CSV file each. Read the folder, cut the recordings
into windows, and score every person by a model of the others. Needs pandas:
``pip install ".[pandas]"``.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import mmgraph as mg

# %%
# The folder
# ----------
#
# The recordings are simulated so that the page needs no download. Everybody sits, walks
# and climbs stairs for 40 seconds each, in random order; ``labels.csv`` has one row per
# interval. Two people did not wear the sensor of skin conductance.

RATES = {"acc": 50, "pressure": 10, "eda": 4, "heart": 1}  # Hz
ACTIVITIES = ["sit", "walk", "stairs"]


def simulate(sensor, rate, activity, rng):
    """Return one sensor of one person; the activity changes every 40 seconds."""
    t = np.arange(0, 120, 1 / rate)
    state = activity[(t // 40).astype(int)]
    if sensor == "acc":
        swing = np.sin(2 * np.pi * 1.8 * t) * np.array([0.05, 1.0, 0.8])[state]
        x = swing[:, None] * [1.0, 0.6, 0.3] + rng.normal(0, 1.0, (len(t), 3))
        return pd.DataFrame({"time": t, "x": x[:, 0], "y": x[:, 1], "z": x[:, 2]})
    if sensor == "pressure":  # falls by 0.03 hPa per second on stairs
        x = 1013 + rng.normal() - np.cumsum(0.03 * (state == 2)) / rate
    else:
        x = np.array([0.0, 0.6, 1.0])[state] + 0.5 * rng.normal()
    return pd.DataFrame({"time": t, sensor: x + rng.normal(0, 0.3, len(t))})


home = TemporaryDirectory()
folder, rows = Path(home.name), []
for person in range(6):
    rng = np.random.default_rng(person)
    activity = rng.permutation(3)
    (folder / f"p{person}").mkdir()
    for sensor, rate in RATES.items():
        if sensor != "eda" or person not in (2, 5):
            table = simulate(sensor, rate, activity, rng)
            table.to_csv(folder / f"p{person}" / f"{sensor}.csv", index=False)
    for i, each in enumerate(activity):
        rows.append([f"p{person}", 40 * i, 40 * i + 40, ACTIVITIES[each]])
labels = pd.DataFrame(rows, columns=["recording", "start", "stop", "activity"])
labels.to_csv(folder / "labels.csv", index=False)
print(labels.head(3))

# %%
# From the folder to scores
# -------------------------
#
# A window has 500 rows of acceleration and 10 of heart rate. ``share=0.8`` leaves out
# windows in which the activity changes. Without groups in the table, the recording of a
# window is its group: here, the person. One kind of base learner keeps the page fast;
# leave out ``level`` and ``experts`` for real work.

data = mg.MultimodalData.from_recordings(folder, folder / "labels.csv", y="activity")
windows = data.windows(10, step=5, label="activity", share=0.8)
print(windows)
scores = {}
for person, train, test in windows.leave_one_group_out():
    clf = mg.FusionClassifier(level="model", experts=("linear",), seed=0).fit(train)
    scores[person] = clf.score(test)
    print(f"accuracy of {person}: {scores[person]:.2f}")
print(f"mean accuracy: {np.mean([*scores.values()]):.2f}")

# %%
# A recording over time
# ---------------------
#
# The ids of windows are the recording and the seconds from its start. The model was
# trained on the other people, and predicts without skin conductance.

probability = clf.predict_proba(test)
seconds = [float(each.partition("@")[2]) + 5 for each in test.ids]
figure, axes = plt.subplots(figsize=(6.4, 2.6), layout="constrained")
for k, name in enumerate(clf.classes_):
    axes.plot(seconds, probability[:, k], marker="o", markersize=3, label=name)
for start, stop, name in labels[labels["recording"] == person].iloc[:, 1:].to_numpy():
    axes.axvline(stop, color="k", linewidth=0.6)
    axes.text((start + stop) / 2, 1.04, name, ha="center", va="bottom")
axes.set(xlabel="time in s", ylabel="probability", ylim=(-0.03, 1.03))
axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
plt.show()
