"""
Modalities that nobody has together
===================================

Learn which profile of a digit belongs to which image although no training sample has
both, from a third modality that shares samples with each of them.
"""

import matplotlib.pyplot as plt
import numpy as np

import mmgraph as mg

# %%
# Data
# ----
#
# Each handwritten digit has profile correlations (``fac``), Karhunen-Loeve coefficients
# (``kar``) and an image (``pix``). Half of the training samples lack the image, the
# other half lack the profile, as in two studies that have one measurement in common.

data = mg.load_dataset("mfeat").select(["fac", "kar", "pix"])
order = np.random.default_rng(0).permutation(len(data))
train, test = data[order[:1000]], data[order[1000:1500]]
first_study = np.arange(len(train)) < 500
train = train.mask({"pix": ~first_study, "fac": first_study})

# %%
# Canonical correlation analysis of three modalities
# --------------------------------------------------
#
# ``CCA`` maps each modality to variates that correlate most with those of the others.
# ``num_pairs_`` counts the samples that have two modalities: none has ``fac`` and
# ``pix``. A permutation test shows how many components are not noise.

cca = mg.alignment.CCA(num_components=20).fit(train)
print("samples with two modalities:", cca.num_pairs_.tolist(), sep="\n")
p = cca.test(train, permutations=19)
print(f"significant components: {(p <= 0.05).sum()} of {len(p)}")

# %%
# Search images by profiles
# -------------------------
#
# The 500 test digits are new. ``similarity`` returns the table of cosines: row i is the
# profile of digit i, column j the image of digit j. Without the common modality such a
# table cannot be learned: chance is a Recall@10 of 0.02.

z = cca.transform(test)
table = mg.alignment.similarity(z["fac"], z["pix"])
own = np.eye(len(table), dtype=bool)
for k in (1, 10):
    print(f"Recall@{k}: {mg.metrics.recall_at_k(table, own, k):.3f}")
print(f"closer than the own image: {mg.metrics.foscttm(z['fac'], z['pix']):.4f}")

# %%
# Twenty components are enough for 1000 samples. With few samples, the last components
# are noise, and fewer are better.

counts, components = (62, 125, 250, 500), (2, 5, 10, 20, 40)
recall = np.zeros((len(counts), len(components)))
for i, count in enumerate(counts):
    part = train[np.r_[:count, 500 : 500 + count]]
    for j, num in enumerate(components):
        each = mg.alignment.CCA(num).fit(part).transform(test)
        found = mg.alignment.similarity(each["fac"], each["pix"])
        recall[i, j] = mg.metrics.recall_at_k(found, own, 10)

fig, (left, right) = plt.subplots(1, 2, figsize=(8.5, 3.6), layout="constrained")
by_digit = np.argsort(test.y, kind="stable")[::5]
drawn = left.imshow(table[np.ix_(by_digit, by_digit)], cmap="RdBu_r", vmin=-1, vmax=1)
left.set(xlabel="image, sorted by digit", ylabel="profile, sorted by digit")
fig.colorbar(drawn, ax=left, label="similarity")
for count, row in zip(counts, recall, strict=True):
    right.plot(components, row, "o-", label=f"{2 * count} samples")
right.set(xlabel="components", ylabel="Recall@10 of 500", xscale="log", ylim=(0, 1.03))
right.set_xticks(components, components)
right.minorticks_off()
right.legend()

# %%
# Two modalities that no sample links, directly or through others, are an error. Without
# any pair, ``mg.alignment.transport`` with ``kind="gromov"`` compares the distances
# within each modality; see the guide "Alignment".

plt.show()
