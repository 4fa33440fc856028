"""Find, load and declare the compiled library."""

import ctypes
import os
import warnings
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from mmgraph.native.sources import digest_sources

VARIANTS = {"AVX512": ("v4", "v3", "any"), "AVX2": ("v3", "any")}
ALONE = 1 << 15  # numbers in a table below which one thread is as fast as many

INT, POINTER = ctypes.c_int64, ctypes.c_void_p
SIGNATURES = {
    "attention_forward": (*[POINTER] * 4, ctypes.c_int),
    "attention_backward": (*[POINTER] * 9, ctypes.c_int),
    "row_bounds": (POINTER, INT, INT, INT, POINTER),
    "maps_forward": (POINTER, POINTER, INT, ctypes.c_int),
    "maps_backward": (POINTER, POINTER, INT, *[POINTER] * 4, ctypes.c_int),
}


@cache
def find_library() -> ctypes.CDLL | None:
    """Load the fastest kernels that were built and that this processor can run."""
    if os.environ.get("MMGRAPH_NATIVE") == "0":
        return None
    capability = torch.backends.cpu.get_cpu_capability()
    for variant in VARIANTS.get(capability, ("any",)):
        path = Path(__file__).with_name(f"kernels-{variant}.so")
        if not path.exists():
            continue
        try:
            return declare(path)
        except (OSError, AttributeError, ValueError) as error:
            warnings.warn(
                f"{path.name} cannot be used ({error}): mmgraph runs on torch alone, "
                "slower. Install mmgraph anew on this machine.",
                RuntimeWarning,
                stacklevel=2,
            )
    return None


def declare(path: Path) -> ctypes.CDLL:
    """Load a library and declare its functions.

    Raises:
        OSError: It is no library for this machine.
        AttributeError: It lacks a function.
        ValueError: It was compiled from other sources than those beside it.
    """
    library = ctypes.CDLL(str(path))
    library.compiled_from.restype = ctypes.c_char_p
    if library.compiled_from() != digest_sources().encode():
        raise ValueError("compiled from other sources")
    for name, types in SIGNATURES.items():
        function = getattr(library, name)
        function.argtypes, function.restype = types, None
    return library


def is_available() -> bool:
    """Tell whether kernels were built for this machine."""
    return find_library() is not None


def serves(*tensors: Tensor) -> bool:
    """Tell whether kernels take such tensors: float32 on the CPU, eager."""
    return (
        all(x.dtype == torch.float32 and x.device.type == "cpu" for x in tensors)
        and not torch.compiler.is_compiling()
        and is_available()
    )


def loaded() -> ctypes.CDLL:
    """Return the library where :func:`serves` said yes."""
    library = find_library()
    assert library is not None
    return library


def address(tensor: Tensor | None) -> int | None:
    """Return where the numbers of a tensor begin."""
    return None if tensor is None else tensor.data_ptr()


def threads_for(tensor: Tensor) -> int:
    """How many threads pay for a table."""
    return 1 if tensor.numel() < ALONE else torch.get_num_threads()
