"""Contrastive baseline: one tower per modality, InfoNCE over all pairs.

Letters: `N` samples, `F` features of one modality, `D` width of the shared space.
"""

from itertools import combinations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import skip_init

from mmgraph.baselines.inputs import FloatArray, observed
from mmgraph.baselines.retrieval import Components, Pair, RetrievalBaseline, Rows
from mmgraph.data import MultimodalData

HIDDEN, WIDTH, DROPOUT = 256, 128, 0.5
EPOCHS, BATCH = 60, 256


class TwoTower(RetrievalBaseline):
    """One multilayer perceptron per modality into a shared space, trained by InfoNCE.

    Every two modalities of a sample are a positive pair; the other samples of the batch
    with both modalities are negatives.

    References:
        Learning transferable visual models from natural language supervision. Radford
        et al., 2021. arXiv:2103.00020.
    """

    def _fit(self, x: Rows, data: MultimodalData) -> None:
        self._components = {name: Components.fit(rows) for name, rows in x.items()}
        x = {name: self._reduced(name, rows) for name, rows in x.items()}
        generator = torch.Generator().manual_seed(self.seed)
        self._towers = nn.ModuleDict({name: _tower(rows) for name, rows in x.items()})
        _initialize(self._towers, generator)
        scale = nn.Parameter(torch.tensor(np.log(1 / 0.07), dtype=torch.float32))
        tables = {name: torch.from_numpy(rows).float() for name, rows in x.items()}
        optimizer = torch.optim.AdamW(
            [*self._towers.parameters(), scale], lr=1e-3, weight_decay=1e-2
        )
        for _ in range(EPOCHS):
            order = torch.randperm(len(data), generator=generator)
            for chosen in order.split(BATCH):
                rows = {
                    name: _dropout(table[chosen], generator)
                    for name, table in tables.items()
                }
                loss = self._loss(rows, scale)
                if loss is not None:
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
        self._towers.requires_grad_(False)

    def _loss(self, rows: dict[str, Tensor], scale: Tensor) -> Tensor | None:
        losses = []
        for a, b in combinations(rows, 2):
            both = ~(rows[a].isnan().all(1) | rows[b].isnan().all(1))
            if int(both.sum()) > 1:
                u, v = (
                    F.normalize(self._towers[name](rows[name][both]), dim=1)
                    for name in (a, b)
                )
                logits = scale.exp().clamp(max=100) * u @ v.T
                target = torch.arange(len(logits))
                losses += [F.cross_entropy(logits, target)]
                losses += [F.cross_entropy(logits.T, target)]
        return torch.stack(losses).mean() if losses else None

    def _embed(self, a: str, x: FloatArray, b: str, y: FloatArray) -> Pair | None:
        return self._apply(a, x), self._apply(b, y)

    def _reduced(self, name: str, x: FloatArray) -> FloatArray:
        """Return principal components scaled to about unit size."""
        return self._components[name].apply(x) / np.sqrt(x.shape[1]) * 8

    def _apply(self, name: str, x: FloatArray) -> FloatArray:
        z = np.full((len(x), WIDTH), np.nan)
        has = observed(x)
        z[has] = self._towers[name](
            torch.from_numpy(self._reduced(name, x[has])).float()
        ).numpy()
        return z


def _dropout(x: Tensor, generator: torch.Generator) -> Tensor:
    """Apply dropout with masks drawn from the generator alone."""
    kept = torch.rand(x.shape, generator=generator) >= DROPOUT
    return x * kept / (1 - DROPOUT)


def _tower(rows: FloatArray) -> nn.Sequential:
    # weights are not drawn here, which would change the global random state
    first = skip_init(nn.Linear, rows.shape[1], HIDDEN)
    return nn.Sequential(first, nn.ReLU(), skip_init(nn.Linear, HIDDEN, WIDTH))


def _initialize(towers: nn.Module, generator: torch.Generator) -> None:
    """Draw weights from the generator alone, with the default distribution of torch."""
    for layer in towers.modules():
        if isinstance(layer, nn.Linear):
            bound = layer.in_features**-0.5
            nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
            nn.init.uniform_(layer.bias, -bound, bound, generator=generator)
