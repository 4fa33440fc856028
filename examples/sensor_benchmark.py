"""
Sensor benchmark: motions recorded by a smart watch
===================================================

Classify four motions from six sensors of a smart watch, each a time series, while up to
90% of the sensors fail.
"""

import matplotlib.pyplot as plt

import mmgraph as mg
from mmgraph import baselines

# %%
# One modality per axis
# ---------------------
#
# The data set holds 80 recordings of 10 seconds at 10 Hz, with an official split into
# 40 for training and 40 for test. Whole recordings are easy: most models classify all
# of them. Only the first two seconds are kept here, and each axis of accelerometer and
# gyroscope is a separate modality, so that single axes can fail. Sequences are lists of
# arrays ``[T, C]``; their time stamps in seconds are passed alongside.

recorded = mg.load_dataset("basic_motions")
graphs = recorded.to_hetero_data()  # one PyTorch Geometric graph per recording
seconds = 2
series, times = {}, {}
for sensor in ("acc", "gyro"):
    for channel, axis in enumerate("xyz"):
        parts = [graph[sensor] for graph in graphs]
        early = [part.time < seconds for part in parts]
        series[f"{sensor}_{axis}"] = [
            part.x[keep][:, [channel]].numpy()
            for part, keep in zip(parts, early, strict=True)
        ]
        times[f"{sensor}_{axis}"] = [
            part.time[keep].numpy() for part, keep in zip(parts, early, strict=True)
        ]
data = mg.MultimodalData.from_arrays(
    series, y=recorded.y, times=times, split_name=recorded.split_name
)
print(data)

fig, axes = plt.subplots(2, 2, figsize=(7, 4), sharex=True, layout="constrained")
for ax, motion in zip(axes.flat, sorted(set(recorded.y)), strict=True):
    i = list(recorded.y).index(motion)
    for name in ("acc_x", "gyro_x"):
        ax.plot(times[name][i], series[name][i], label=name)
    ax.set_title(motion)
axes[0, 0].legend()
fig.supxlabel("seconds")

# %%
# Models
# ------
#
# The baselines read fixed-length statistics of each series. mmgraph reads these too,
# and additionally the samples in time order. The ensemble is small to keep the page
# fast.

models = {
    "mmgraph": mg.FusionClassifier(
        seed=0, members=2, epochs=10, experts=("linear", "forest")
    ),
    "late fusion, logistic": baselines.LateLogistic(seed=0),
    "mean imputation, forest": baselines.MeanForest(seed=0),
    "gradient boosting": baselines.HistGradientBoosting(seed=0),
    "token transformer": baselines.TokenTransformerBaseline(seed=0),
}

# %%
# Sensors fail at test time
# -------------------------
#
# Training recordings are complete. A share of the sensors is removed at random from the
# test recordings, each recording keeps at least one, and all models get the same masks.
# Scores are means over three masks of 40 recordings: differences below 0.05 are noise.

rates = (0, 0.3, 0.5, 0.7, 0.9)
train, test = data.official_split()
accuracy = {}
print(f"{'accuracy':<26}" + "".join(f"{rate:>7.0%}" for rate in rates))
for name, model in models.items():
    rows = mg.evaluate(model.fit(train), test, rates).rows
    accuracy[name] = [row["accuracy"] for row in rows]
    print(f"{name:<26}" + "".join(f"{score:>7.3f}" for score in accuracy[name]))

fig, ax = plt.subplots(figsize=(6, 4), layout="constrained")
for name, scores in accuracy.items():
    style = {"lw": 3, "color": "black"} if name == "mmgraph" else {"marker": "o"}
    ax.plot(rates, scores, label=name, **style)
ax.axhline(0.25, color="gray", ls=":", label="chance")
ax.set(xlabel="share of sensors removed", ylabel="accuracy", ylim=(0.2, 1.02))
ax.legend(loc="lower left")
plt.show()
