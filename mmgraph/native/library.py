"""Discovery and loading of the compiled kernels."""

import ctypes
import os
import warnings
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from mmgraph.native.sources import digest_sources

VARIANTS = {"AVX512": ("v4", "v3", "any"), "AVX2": ("v3", "any")}
MIN_THREADED_SIZE = 1 << 15  # elements below which one thread is as fast as many

INT, POINTER = ctypes.c_int64, ctypes.c_void_p
SIGNATURES = {
    "attention_forward": (*[POINTER] * 4, ctypes.c_int),
    "attention_backward": (*[POINTER] * 9, ctypes.c_int),
    "row_bounds": (POINTER, INT, INT, INT, POINTER),
    "segment_linear_forward": (POINTER, POINTER, INT, ctypes.c_int),
    "segment_linear_backward": (POINTER, POINTER, INT, *[POINTER] * 4, ctypes.c_int),
}


@cache
def find_library() -> ctypes.CDLL | None:
    """Load the fastest compiled variant that this processor supports.

    Returns:
        The library, or None where no variant was built or ``MMGRAPH_NATIVE=0``.
    """
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
                "more slowly. Reinstall mmgraph on this machine.",
                RuntimeWarning,
                stacklevel=2,
            )
    return None


def declare(path: Path) -> ctypes.CDLL:
    """Load a library and declare the types of its functions.

    Raises:
        OSError: If the file is not a library for this machine.
        AttributeError: If a function is missing.
        ValueError: If the library was compiled from other sources than the installed
            ones.
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
    """Return True if kernels were built for this machine."""
    return find_library() is not None


def supports(*tensors: Tensor) -> bool:
    """Return True if kernels apply to these tensors: float32, on the CPU, eager."""
    return (
        all(x.dtype == torch.float32 and x.device.type == "cpu" for x in tensors)
        and not torch.compiler.is_compiling()
        and is_available()
    )


def get_library() -> ctypes.CDLL:
    """Return the library; valid only where :func:`supports` returned True."""
    library = find_library()
    assert library is not None
    return library


def address(tensor: Tensor | None) -> int | None:
    """Return the address of the first element of a tensor; None stays None."""
    return None if tensor is None else tensor.data_ptr()


def num_threads_for(tensor: Tensor) -> int:
    """Return the number of threads for a table: one where it is small."""
    return 1 if tensor.numel() < MIN_THREADED_SIZE else torch.get_num_threads()
