"""Contract cases of a pretrained model that is trained, on rows made from a batch.

What a row of the batch holds becomes tokens, a picture or a piece of a sound.
"""

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor, nn

from contract.blocks import WIDTH, run_encoder, seeded
from contract.laws import Case, Outputs
from mmgraph.data.batch import Batch
from mmgraph.nn.finetuning import FineTunedEncoder
from mmgraph.pretrained import PretrainedEncoder

VOCABULARY = 15
SIDE = 32
PIECE = 60  # values of a waveform for each row of the batch
# of the batch: parts of ecg are held out, of move several samples have some
MODALITIES = {"text": ("ecg", "move"), "image": ("labs",), "audio": ("ecg", "move")}


def mixed(x: Tensor, width: int) -> Tensor:
    """Map rows to more values, the same way every time; all are finite."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(x.shape[1], width, generator=generator, dtype=torch.float64)
    return torch.where(x.isnan(), 7, x).clamp(-1e30, 1e30) @ weight.to(x.dtype)


def as_values(kind: str, name: str, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return rows as :meth:`FineTunedEncoder.prepare` makes them, and their samples.

    What is held out is its own content, whatever that is: no token of the vocabulary.
    """
    x, sample = batch.x[name], batch.sample[name]
    hidden = torch.zeros(len(x), 1, dtype=torch.bool)
    if batch.held_out is not None:
        hidden = batch.held_out[sample, batch.modalities.index(name)][:, None]
    if kind == "text":
        known = (mixed(x, 1) * 1000).abs().remainder(VOCABULARY).long()
        return torch.where(hidden, x[:, :1].long() - VOCABULARY, known), sample
    if kind == "image":
        return torch.where(hidden, x[:, :1], mixed(x, 3 * SIDE * SIDE)), sample
    values = torch.where(hidden, x[:, :1], mixed(x, PIECE))
    return values.reshape(-1, 1), sample.repeat_interleave(PIECE)


def run_tuned(module: nn.Module, batch: Batch, *, kind: str, name: str) -> Outputs:
    x, sample = as_values(kind, name, batch)
    made = Batch(
        batch.num_samples,
        {n: x if n == name else rows for n, rows in batch.x.items()},
        {n: sample if n == name else rows for n, rows in batch.sample.items()},
        {},
        batch.held_out,
    )
    return run_encoder(module, made, name)


def build_tuned(folder: str, rank: int | None, members: int | None) -> nn.Module:
    encoder = PretrainedEncoder(folder, lora_rank=rank)
    module = FineTunedEncoder(encoder, WIDTH, members=members)
    for name, weight in module.named_parameters():
        if "lora_B" in name:  # begins at zero, where its partner learns nothing
            nn.init.normal_(weight, std=0.1)
    return module


def tuned_cases(folders: Mapping[str, str]) -> dict[str, Callable[[], Case]]:
    """Return the cases by name, each to be made where the folders are there."""

    def case(
        kind: str, name: str, rank: int | None = None, members: int | None = None
    ) -> Case:
        build = partial(build_tuned, folders[kind], rank, members)
        return Case(
            f"FineTunedEncoder-{kind}-{name}",
            ("FineTunedEncoder",),
            partial(seeded, build),
            partial(run_tuned, kind=kind, name=name),
            prior=False,
            foreign=kind == "audio",  # it has a vector for hidden parts of a sound
        )

    made = {}
    for kind, names in MODALITIES.items():
        for name in names:
            made[f"{kind}-{name}"] = partial(case, kind, name)
        made[f"{kind}-{name}-members"] = partial(case, kind, name, None, 2)
    return made | {"text-move-lora": partial(case, "text", "move", 2)}
