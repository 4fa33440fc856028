"""
Serve with ONNX Runtime
=======================

Export a fitted classifier to one ONNX file, predict without PyTorch, check that the
predictions agree, and compare the latency of single samples. Needs ``pip install
".[export]"``.
"""

import tempfile
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import onnxruntime

import mmgraph as mg
from mmgraph import serving

# %%
# Fit and export
# --------------
#
# The file contains the whole stacked ensemble: scaling, base learners, pool and graph
# networks. Three modalities and linear base learners keep the export short here.

data = mg.load_dataset("heart").replace(groups=None)
data = data.select(["history", "exercise_ecg", "thallium"])
train, test = data.split(test_size=0.3, seed=0)
options = {"seed": 0, "members": 2, "epochs": 5, "experts": ("linear",)}
clf = mg.FusionClassifier(**options).fit(train)
folder = tempfile.TemporaryDirectory()
path = Path(folder.name) / "heart.onnx"
serving.export(clf, path)
print(f"{path.name}: {path.stat().st_size / 1e6:.1f} MB")

# %%
# Predict from any subset of modalities
# -------------------------------------
#
# ``serving.load`` accepts arrays by modality, or ``MultimodalData``. A modality that is
# left out is missing in all samples, a row of NaN is missing in one.

model = serving.load(path, threads=1)
history = np.array([[63, 1, 0, 0, 0, 1], [41, 0, 0, 1, 0, 0]], dtype=np.float32)
exercise = np.array([[132, 1, 2.5, 0, 1, 0], [np.nan] * 6], dtype=np.float32)
print("features of history:", data.columns["history"].names)
print(model.predict_proba({"history": history, "exercise_ecg": exercise}).round(3))

# %%
# The exported model agrees with the estimator, here on test patients with half of their
# modalities removed.

reduced = mg.missing.mcar(0.5).plan(test, seed=0).apply(test)
difference = abs(model.predict_proba(reduced) - clf.predict_proba(reduced)).max()
print(f"largest difference: {difference:.1e}")

# %%
# Inputs and outputs
# ------------------
#
# Any program with ONNX Runtime can use the file, in Python or another language. A bare
# session needs every input.

session = onnxruntime.InferenceSession(path)
for tensor in (*session.get_inputs(), *session.get_outputs()):
    print(f"{tensor.name:<22} {tensor.type} {tensor.shape}")

# %%
# Latency of single samples
# -------------------------
#
# The figure shows the distribution of 200 predictions of one sample on this machine.


def latencies(predict, repeats=200):
    """Return the milliseconds of each call after a warm-up."""
    sample, result = test[:1], []
    for _ in range(repeats + 20):
        start = time.perf_counter()
        predict(sample)
        result.append(1000 * (time.perf_counter() - start))
    return result[20:]


measured = {
    "ONNX Runtime": latencies(model.predict_proba),
    "FusionClassifier": latencies(clf.predict_proba),
}
for name, values in measured.items():
    print(f"median ms, {name}: {np.median(values):.2f}")
fig, ax = plt.subplots(figsize=(6, 2.5), layout="constrained")
ax.boxplot(measured.values(), orientation="horizontal", showfliers=False)
ax.set_yticks([1, 2], measured)
ax.set(xlabel="milliseconds per sample", xlim=(0, None))
folder.cleanup()
plt.show()
