"""The two network architectures of the baselines and their training.

Letters: `B` samples, `M` modalities, `W` concatenated inputs of all modalities, `D`
width, `K` classes. `x` is zero where a modality is missing; `present` is True where it
is observed.
"""

import copy
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mmgraph._random import draws_from
from mmgraph._threads import one_thread
from mmgraph.missing import modality_dropout

_HIDDEN = 64
_HEADS = 4
_LAYERS = 2
_DROPOUT_RATE = 0.3
_HELD_OUT = 0.15
_BATCH = 64
_EPOCHS = 200
_PATIENCE = 20


class ConcatMLP(nn.Module):
    """Multilayer perceptron on the concatenated modalities and their indicators.

    Args:
        widths: Inputs of each modality; they sum to W.
        num_classes: K.
    """

    owner: Tensor

    def __init__(self, widths: Sequence[int], num_classes: int) -> None:
        super().__init__()
        owner = torch.arange(len(widths)).repeat_interleave(torch.tensor(widths))
        self.register_buffer("owner", owner, persistent=False)
        self.layers = nn.Sequential(
            nn.Linear(sum(widths) + len(widths), _HIDDEN),
            nn.ReLU(),
            nn.Linear(_HIDDEN, _HIDDEN),
            nn.ReLU(),
            nn.Linear(_HIDDEN, num_classes),
        )

    def forward(
        self, x: Float[Tensor, "B W"], present: Bool[Tensor, "B M"]
    ) -> Float[Tensor, "B K"]:
        """Return logits; inputs of missing modalities have no effect."""
        x = x.masked_fill(~present[:, self.owner], 0.0)
        logits: Tensor = self.layers(torch.cat([x, present.to(x.dtype)], dim=1))
        return logits


class TokenLayer(nn.Module):
    """Pre-norm transformer layer over the tokens of a sample."""

    def __init__(self) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(_HIDDEN)
        self.query_key_value = nn.Linear(_HIDDEN, 3 * _HIDDEN)
        self.out = nn.Linear(_HIDDEN, _HIDDEN)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(_HIDDEN),
            nn.Linear(_HIDDEN, 2 * _HIDDEN),
            nn.GELU(),
            nn.Linear(2 * _HIDDEN, _HIDDEN),
        )

    def forward(
        self, h: Float[Tensor, "B T D"], present: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B T D"]:
        """Return updated tokens; attention is restricted to present tokens."""
        num_samples, num_tokens, _ = h.shape
        joint = self.query_key_value(self.norm_attention(h))
        joint = joint.reshape(num_samples, num_tokens, 3, _HEADS, _HIDDEN // _HEADS)
        query, key, value = joint.permute(2, 0, 3, 1, 4)  # [B, H, T, D / H]
        seen = present[:, None, None, :]
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=seen)
        h = h + self.out(mixed.transpose(1, 2).reshape(h.shape))
        updated: Tensor = h + self.feed_forward(h)
        return updated


class TokenTransformer(nn.Module):
    """Transformer with a class token and one token per present modality.

    Args:
        widths: Inputs of each modality; they sum to W.
        num_classes: K.
    """

    def __init__(self, widths: Sequence[int], num_classes: int) -> None:
        super().__init__()
        self.widths = list(widths)
        self.embed = nn.ModuleList(nn.Linear(width, _HIDDEN) for width in widths)
        self.class_token = nn.Parameter(0.02 * torch.randn(_HIDDEN))
        self.layers = nn.ModuleList(TokenLayer() for _ in range(_LAYERS))
        self.head = nn.Sequential(
            nn.LayerNorm(_HIDDEN), nn.Linear(_HIDDEN, num_classes)
        )

    def forward(
        self, x: Float[Tensor, "B W"], present: Bool[Tensor, "B M"]
    ) -> Float[Tensor, "B K"]:
        """Return logits; the class token is always present."""
        parts = zip(self.embed, torch.split(x, self.widths, dim=1), strict=True)
        first = self.class_token.expand(len(x), _HIDDEN)
        h = torch.stack([first, *(embed(part) for embed, part in parts)], dim=1)
        present = F.pad(present, (1, 0), value=True)
        for layer in self.layers:
            h = layer(h, present)
        logits: Tensor = self.head(h[:, 0])
        return logits


@one_thread()
def train_network(
    make: Callable[[], nn.Module],
    x: Float[Tensor, "B W"],
    present: Bool[Tensor, "B M"],
    y: Int[Tensor, " B"],
    seed: int,
) -> nn.Module:
    """Train with modality dropout and early stopping on held-out samples.

    15% of each class are held out, without dropout; the weights of the epoch with the
    lowest held-out loss are kept. If all classes are too small to hold out samples, the
    training loss without dropout is used instead.

    Args:
        make: Function that builds the network; the seed determines the initial weights.
        x: Inputs, zero where missing.
        present: Availability of the modalities.
        y: Class codes.
        seed: Seed of weights, held-out samples, batches and dropout.

    Returns:
        The trained network in evaluation mode.
    """
    with draws_from(seed):
        net = make()
    generator = torch.Generator().manual_seed(seed)
    held_out = _held_out(y, generator)
    train = (~held_out).nonzero()[:, 0]
    check = held_out.nonzero()[:, 0] if held_out.any() else train
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=1e-2)
    best, best_epoch, state = float("inf"), 0, copy.deepcopy(net.state_dict())
    for epoch in range(_EPOCHS):
        order = train[torch.randperm(len(train), generator=generator)]
        for rows in torch.split(order, _BATCH):
            kept = modality_dropout(present[rows], _DROPOUT_RATE, generator)
            loss = F.cross_entropy(net(x[rows], kept), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            value = float(F.cross_entropy(net(x[check], present[check]), y[check]))
        if value < best:
            best, best_epoch, state = value, epoch, copy.deepcopy(net.state_dict())
        elif epoch - best_epoch >= _PATIENCE:
            break
    net.load_state_dict(state)
    return net.eval()


def _held_out(y: Int[Tensor, " B"], generator: torch.Generator) -> Bool[Tensor, " B"]:
    """Return True for 15% of each class, rounded, chosen at random."""
    order = torch.randperm(len(y), generator=generator)
    order = order[y[order].argsort(stable=True)]  # grouped by class
    count = torch.bincount(y)
    start = count.cumsum(0) - count
    rank = torch.arange(len(y)) - start[y[order]]
    held_out = torch.zeros(len(y), dtype=torch.bool)
    held_out[order] = rank < (_HELD_OUT * count[y[order]]).round()
    return held_out
