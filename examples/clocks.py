"""
Are these two recordings aligned?
=================================

Two sensors have two clocks. Estimate from the recordings by how much one clock is
ahead, with an interval, and correct the times. Then align two recordings of one motion
that differ in speed.
"""

import matplotlib.pyplot as plt
import numpy as np

import mmgraph as mg

# %%
# A clock that is ahead
# ---------------------
#
# The data set holds 80 recordings of four motions, 10 seconds at 10 Hz, by the
# accelerometer and the gyroscope of one watch. Their clocks agree. In the test part,
# 0.3 s are added to the times of the accelerometer: three rows.

data = mg.load_dataset("basic_motions")
train, test = data.official_split()
true_shift = 0.3
ahead = test.shift_times({"acc": true_shift})

# %%
# The offset
# ----------
#
# Acceleration and rate of turn do not peak at the same time even if their clocks agree.
# What "in step" means is learned from the training recordings, the reference. The
# offset is what must be subtracted from the times of the accelerometer.

offset = mg.alignment.estimate_offset(ahead, "acc", "gyro", reference=train)
interval = f"[{offset.low:.3f}, {offset.high:.3f}]"
print(f"offset of all recordings: {offset.seconds:.3f} {interval}")
right = ahead.shift_times({"acc": -offset.seconds})
print(f"acceleration starts at: {right.columns['acc'].time[0]:.3f}")
blind = mg.alignment.estimate_offset(ahead, "acc", "gyro")
interval = f"[{blind.low:.3f}, {blind.high:.3f}]"
print(f"offset without reference: {blind.seconds:.3f} {interval}")

# %%
# Without reference, the offset is the lag of the strongest dependence. Periodic motions
# such as walking fit several lags, and the interval is wide: such an estimate should
# not be applied.

# %%
# One offset per recording
# ------------------------
#
# Each recording of 10 seconds also has its own offset and interval. Intervals are
# calibrated on the reference: 90% of them should contain the true offset. A watch that
# hardly moves has a wide one.

each = mg.alignment.estimate_offset(ahead, "acc", "gyro", reference=train, per="sample")
inside = (each.low <= true_shift) & (true_shift <= each.high)
print(f"share of intervals with the true offset: {inside.mean():.2f}")
width = each.high - each.low
for motion in np.unique(test.y):
    print(f"median width, {motion.lower()}: {np.median(width[test.y == motion]):.3f}")

order = np.argsort(test.y, kind="stable")
place = np.arange(len(test))
fig, ax = plt.subplots(figsize=(7, 3.4), layout="constrained")
ax.axhline(true_shift, color="#7f8c8d", linewidth=1)
ax.vlines(place, each.low[order], each.high[order], color="#a9cce3", linewidth=4)
ax.plot(place, each.seconds[order], ".", color="#1b4f72")
for motion in np.unique(test.y):
    rows = place[test.y[order] == motion]
    ax.text(rows.mean(), 1.02, motion, ha="center", transform=ax.get_xaxis_transform())
ax.set(xlabel="recording", ylabel="offset in seconds", xticks=[])

# %%
# Recordings of different speed
# -----------------------------
#
# Two people walk at different speeds. No offset aligns them, but dynamic time warping
# does: the path through the table of distances matches each row of one recording with
# rows of the other. It follows the valleys, one for each step.

column = test.columns["acc"]
parts = np.split(column.values, column.offsets[1:-1])
walks = [parts[i] for i in np.flatnonzero(test.y == "Walking")[[0, 3]]]
warping = mg.alignment.dtw(*walks)
equal = np.sqrt(((walks[0] - walks[1]) ** 2).sum())
print(f"distance, row by row: {equal:.1f}")
print(f"distance, warped: {warping.distance:.1f}")

fig, ax = plt.subplots(figsize=(4.6, 4), layout="constrained")
image = ax.imshow(np.sqrt(warping.cost).T, origin="lower", cmap="Blues_r")
ax.plot(*warping.path.T, color="#ca6f1e", linewidth=2)
ax.set(xlabel="row of the first walk", ylabel="row of the second walk")
fig.colorbar(image, label="distance of rows")

plt.show()
