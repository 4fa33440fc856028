"""
Cross-modal retrieval
=====================

Search handwritten digits by the shape descriptors of a query, in a gallery of images,
with queries and entries that lack some of their modalities.
"""

import matplotlib.pyplot as plt
import numpy as np

import mmgraph as mg

# %%
# Data
# ----
#
# Each digit has an image of 15 x 16 pixels (``pix``) and three sets of shape
# descriptors: Fourier coefficients (``fou``), Zernike moments (``zer``) and
# Karhunen-Loeve coefficients (``kar``). The modalities of one sample belong together;
# nothing else is learned from, since ``supervision="pairs"`` ignores the class labels.
# 30% of the training modalities are missing.

data = mg.load_dataset("mfeat").select(["pix", "fou", "zer", "kar"])
order = np.random.default_rng(0).permutation(len(data))
train, test = data[order[:500]], data[order[500:800]]
train = mg.missing.mcar(0.3).plan(train, seed=0).apply(train)

# %%
# Fit and evaluate
# ----------------
#
# Recall@K is the share of queries whose own image is among the first K of 300. Each
# modality that a query has can help, and a query may have any subset of them.

retriever = mg.FusionRetriever(seed=0, supervision="pairs").fit(train)
queries = ["fou"], ["zer"], ["fou", "zer"], ["fou", "zer", "kar"]
recall = {}
for query in queries:
    row = mg.evaluate(retriever, test, query=query, gallery=["pix"]).rows[0]
    name = " + ".join(query)
    recall[name] = [row["recall_at_1"], row["recall_at_10"]]
    print(f"Recall@1 by {name}: {row['recall_at_1']:.3f}")

fig, ax = plt.subplots(figsize=(6, 3.5), layout="constrained")
for shift, column, label in ((-0.2, 0, "Recall@1"), (0.2, 1, "Recall@10")):
    heights = [values[column] for values in recall.values()]
    bars = ax.bar(np.arange(len(recall)) + shift, heights, 0.4, label=label)
    ax.bar_label(bars, fmt="%.2f")
ax.set_xticks(range(len(recall)), recall)
ax.set(xlabel="modalities of the query", ylabel="recall", ylim=(0, 1.15))
ax.legend(loc="upper left")

# %%
# Build an index and search it
# ----------------------------
#
# The index holds the gallery, embedded by its images. One in four gallery samples has
# no image here; such a sample is never returned.

has_image = np.random.default_rng(1).random(len(test)) > 0.25
gallery = test.mask({"pix": has_image})
index = retriever.index(gallery, modalities=["pix"])
print(index)
chosen = test[np.flatnonzero(has_image)[:6]]
hits = index.search(retriever.embed(chosen, modalities=["fou", "zer"]), k=5)
print("similarity of the best hits:", hits.scores[:, 0].round(2))

# %%
# Each row shows the image of a query, which the search did not use, and the five best
# hits. A frame marks the query's own image. These Fourier coefficients and Zernike
# moments do not depend on the rotation of a shape, so that 6 and 9 are confused.

images = dict(
    zip(data.ids, data.columns["pix"].values.reshape(-1, 16, 15), strict=True)
)
fig, axes = plt.subplots(6, 6, figsize=(6, 6.4), layout="constrained")
for row, query_id, found in zip(axes, chosen.ids, hits.ids, strict=True):
    for ax, i in zip(row, (query_id, *found), strict=True):
        ax.imshow(images[i], cmap="gray_r")
        ax.set(xticks=[], yticks=[])
        color, width = ("tab:green", 3) if i == query_id else ("lightgray", 1)
        plt.setp(ax.spines.values(), color=color, linewidth=width)
axes[0, 0].set_title("query")
for rank, ax in enumerate(axes[0, 1:], start=1):
    ax.set_title(f"hit {rank}")

# %%
# The index can be saved, extended with ``index.add`` and, with the extra ``search``,
# built with approximate nearest neighbors.

plt.show()
