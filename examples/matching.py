"""
Match two sides of a pair
=========================

Estimate the probability that an image and a set of shape descriptors belong to the same
handwritten digit, and re-rank the results of a search with it.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.metrics import roc_auc_score

import mmgraph as mg

# %%
# Fit
# ---
#
# The left side is the image, the right side has two sets of shape descriptors. The
# matcher is trained on true pairs, which are the samples, against pairs of different
# samples that it draws itself: half at random, half among the most similar.

data = mg.load_dataset("mfeat").select(["pix", "fou", "zer"])
order = np.random.default_rng(0).permutation(len(data))
train, test = data[order[:500]], data[order[500:800]]
matcher = mg.FusionMatcher(left=["pix"], right=["fou", "zer"], seed=0).fit(train)

# %%
# Score pairs
# -----------
#
# ``predict_proba`` compares row i of one side with row i of the other. Here each image
# is paired with its own descriptors, with those of a random digit, and with those of
# another digit of the same class.

by_class = [np.flatnonzero(test.y == digit) for digit in range(10)]
neighbor = np.empty(len(test), dtype=int)
neighbor[np.concatenate(by_class)] = np.concatenate([np.roll(i, 1) for i in by_class])
pairs = {
    "own descriptors": test,
    "another digit, same class": test[neighbor],
    "random digit": test[np.roll(np.arange(len(test)), 1)],
}
probability = {
    name: matcher.predict_proba(test, right) for name, right in pairs.items()
}
for name, p in probability.items():
    print(f"mean probability, {name}: {p.mean():.3f}")

fig, ax = plt.subplots(figsize=(6, 3.5), layout="constrained")
bins = np.linspace(0, 1, 21)
for name, p in probability.items():
    ax.hist(p, bins, histtype="step", lw=2, label=name)
ax.set(xlabel="estimated probability of a match", ylabel="pairs")
ax.legend(loc="upper center")

# %%
# Missing modalities
# ------------------
#
# Either side may lack modalities. Zernike moments alone separate digits of the same
# class almost as well as both descriptor sets, Fourier coefficients alone much less.
# With nothing on one side, the probability is one half.

auroc = {}
for kept in (["fou", "zer"], ["zer"], ["fou"]):
    keep = {name: np.full(len(test), name in kept) for name in ("fou", "zer")}
    right = test.mask(keep)
    p = np.append(
        matcher.predict_proba(test, right),
        matcher.predict_proba(test, right[neighbor]),
    )
    match = np.repeat([1, 0], len(test))
    name = " + ".join(kept)
    auroc[name] = roc_auc_score(match, p)
    print(f"AUROC against the same class, right side {name}: {auroc[name]:.3f}")
nothing = test.mask(
    {"fou": np.zeros(len(test), bool), "zer": np.zeros(len(test), bool)}
)
print("probability with an empty right side:", matcher.predict_proba(test, nothing)[0])

# %%
# Re-rank search results
# ----------------------
#
# A retriever finds candidates in a large gallery quickly; a matcher compares each
# candidate with the query more closely.

retriever = mg.FusionRetriever(seed=0).fit(train)
index = retriever.index(test, modalities=["pix"])
hits = index.search(retriever.embed(test, modalities=["fou", "zer"]), k=10)
scores = matcher.rescore(test, test, hits.rows, query="right")
ranked = np.take_along_axis(hits.rows, (-scores).argsort(axis=1), axis=1)
own = np.arange(len(test))
print(f"Recall@1 of the search: {(hits.rows[:, 0] == own).mean():.3f}")
print(f"Recall@1 after re-ranking: {(ranked[:, 0] == own).mean():.3f}")
plt.show()
