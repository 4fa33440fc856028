"""Weights that a package ships in the format of before torch 1.6, a pickle.

They are not unpickled: the opcodes are read as text, and the numbers that lie behind
them are cut out.
"""

import pickletools
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch

# storage, type, shape and strides
Described: TypeAlias = tuple[str, str, tuple[int, ...], tuple[int, ...]]


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a state dict in the format of before torch 1.6.

    Four pickles (magic number, version, machine, tensors) and one with the order of
    storages are followed by each storage: its length, and its numbers.
    """
    content = path.read_bytes()
    ends, place = [], 0
    for _ in range(5):
        ops = list(pickletools.genops(content[place:]))
        place += int(ops[-1][2] or 0) + 1
        ends.append((place, ops))
    described = _described(ends[3][1])
    order = [str(arg) for op, arg, _ in ends[4][1] if op.name == "BINUNICODE"]
    numbers = {}
    kinds = {key: kind for key, kind, *_ in described.values()}
    for key in order:
        count = int(np.frombuffer(content, "<i8", 1, place)[0])
        numbers[key] = np.frombuffer(content, kinds[key], count, place + 8)
        place += 8 + count * np.dtype(kinds[key]).itemsize
    assert place == len(content)
    return {
        name: torch.from_numpy(numbers[key].copy()).as_strided(shape, strides).clone()
        for name, (key, _, shape, strides) in described.items()
    }


def _described(
    ops: Iterable[Any],
) -> dict[str, tuple[str, str, tuple[int, ...], tuple[int, ...]]]:
    """Return storage, type, shape and strides of each tensor, by its name.

    A tensor is written as: name, function, "storage", class of the storage, its key,
    device, length, the end of these; offset, the sizes of its shape, their end.
    """
    memo: dict[Any, Any] = {}
    tokens: list[Any] = []
    last = None
    for op, arg, _ in ops:
        if op.name in ("BINUNICODE", "GLOBAL"):
            last = arg
            tokens.append(arg)
        elif op.name.startswith("BININT"):
            tokens.append(arg)
        elif "PUT" in op.name:
            memo[arg] = last
        elif "GET" in op.name:
            tokens.append(memo[arg])
        elif "TUPLE" in op.name or op.name == "BINPERSID":
            tokens.append("END" if "TUPLE" in op.name else "TENSOR")
    types = {"torch FloatStorage": "<f4", "torch LongStorage": "<i8"}
    found = {}
    for at in [i for i, token in enumerate(tokens) if token == "TENSOR"]:
        name, _, _, kind, key = tokens[at - 8 : at - 3]
        middle = tokens.index("END", at)
        shape = tuple(tokens[at + 2 : middle])
        strides = tuple(tokens[middle + 1 : tokens.index("END", middle + 1)])
        assert tokens[at + 1] == 0
        found[name] = (key, types[kind], shape, strides)
    return found
