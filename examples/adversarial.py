"""
Adversarial and corrupted inputs
================================

Attack a graph network with gradients, and compare with broken sensors, which
``reliability="typical"`` detects. Needs captum:
``pip install ".[attack]"``.
"""

import warnings

import matplotlib.pyplot as plt
import numpy as np
import torch
from captum.robust import FGSM, PGD

import mmgraph as mg

# %%
# A differentiable model
# ----------------------
#
# The default estimator contains forests, which have no gradient. Here a single
# :class:`mmgraph.FusionModel` is trained on handwritten digits: six descriptions of the
# same image. Channels are standardized, so that the size of an attack is in standard
# deviations.

data = mg.load_dataset("mfeat")
names = data.modalities
standard = {
    name: ((x - x.mean(0)) / x.std(0)).astype(np.float32)
    for name, x in data.features().items()
}
data = mg.MultimodalData.from_arrays(standard, y=data.y)
train, test = data.split(test_size=0.8, seed=0)
test = test[np.arange(300)]
x_train, x_test = (
    tuple(torch.from_numpy(part.features()[name]) for name in names)
    for part in (train, test)
)
y_train, y_test = (torch.from_numpy(np.asarray(part.y)) for part in (train, test))


def forward(*inputs: torch.Tensor) -> torch.Tensor:
    """Return the logits of samples that have all modalities."""
    rows = torch.arange(len(inputs[0]))
    x = dict(zip(names, inputs, strict=True))
    return model(mg.Batch(len(rows), x, dict.fromkeys(names, rows))).logits


model = mg.FusionModel(data.schema, mg.Classification(10))
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.05)
generator = torch.Generator().manual_seed(0)
for _ in range(40):
    for rows in torch.randperm(len(train), generator=generator).split(64):
        loss = torch.nn.functional.cross_entropy(
            forward(*(x[rows] for x in x_train)), y_train[rows]
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
model.eval().requires_grad_(False)


def accuracy(inputs: tuple[torch.Tensor, ...]) -> float:
    """Return the share of the test samples that are predicted correctly."""
    with torch.no_grad():
        return float((forward(*inputs).argmax(1) == y_test).float().mean())


print(f"accuracy: {accuracy(x_test):.3f}")

# %%
# Attacks with gradients
# ----------------------
#
# The fast gradient sign method (FGSM) moves every channel by the same step in the
# direction that increases the loss; projected gradient descent (PGD) takes several
# smaller steps. Random noise of the same size is the comparison.
#
# References: Explaining and Harnessing Adversarial Examples, Goodfellow, Shlens,
# Szegedy, 2015. Towards Deep Learning Models Resistant to Adversarial Attacks, Madry et
# al., 2018.

warnings.filterwarnings("ignore", message="Input Tensor")  # about required gradients
fgsm, pgd = FGSM(forward), PGD(forward)
sizes = [0.0, 0.05, 0.1, 0.2, 0.3]
curves: dict[str, list[float]] = {"noise": [], "FGSM": [], "PGD": []}
for size in sizes:
    noise = (torch.randn(x.shape, generator=generator).sign() for x in x_test)
    noisy = tuple(x + size * e for x, e in zip(x_test, noise, strict=True))
    attacked = fgsm.perturb(x_test, epsilon=size, target=y_test)
    stepped = pgd.perturb(
        x_test, radius=size, step_size=size / 4, step_num=6, target=y_test
    )
    for name, inputs in zip(curves, (noisy, attacked, stepped), strict=True):
        curves[name].append(accuracy(inputs))

fig, ax = plt.subplots(figsize=(6, 4), layout="constrained")
for name, values in curves.items():
    ax.plot(sizes, values, "o-", label=name)
    print(f"accuracy at size {sizes[-1]}, {name}: {values[-1]:.3f}")
ax.set(xlabel="size in standard deviations of a channel", ylabel="accuracy")
ax.legend()

# %%
# Which attacks are detected
# --------------------------
#
# An attack is small: the attacked rows are as near to the training rows as others are.
# Reliability detects broken sensors, not attacks.

clf = mg.FusionClassifier(
    seed=0, members=1, epochs=2, experts=("linear",), reliability="typical"
).fit(train)
stepped = pgd.perturb(x_test, radius=0.3, step_size=0.1, step_num=6, target=y_test)
arrays = {n: x.numpy() for n, x in zip(names, stepped, strict=True)}
broken = test
for name in names:
    broken = mg.corruption.noise(name, 3.0).apply(broken)
for title, samples in (
    ("unchanged samples", test),
    ("attacked samples", mg.MultimodalData.from_arrays(arrays)),
    ("noise of 3 standard deviations", broken),
):
    unreliable = float((clf.check(samples).reliability < 0.1).mean())
    print(f"unreliable rows, {title}: {unreliable:.3f}")

plt.show()
