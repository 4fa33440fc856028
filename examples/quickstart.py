"""Fit on incomplete records, predict from any subset of modalities, save and load."""

import tempfile

import mmgraph as mg

data = mg.load_dataset("heart")
print(data)

train, test = data.split(test_size=0.2, seed=0)
clf = mg.FusionClassifier(seed=0, epochs=20).fit(train)
print(f"accuracy with what was observed: {clf.score(test):.3f}")

history_only = test.select(["history"])
print(f"accuracy from the history alone: {clf.score(history_only):.3f}")

with tempfile.TemporaryDirectory() as folder:
    clf.save_pretrained(folder)
    same = mg.FusionClassifier.from_pretrained(folder)
    print("loaded model agrees:", (same.predict(test) == clf.predict(test)).all())
