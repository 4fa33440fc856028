"""Check an installed mmgraph: import, shipped data, one small fit, kernels.

Usage: ``python tools/check_wheel.py [--kernels | --pure]``. Run it outside the
repository, so that the installed package is imported.
"""

import sys
from pathlib import Path

import numpy as np

import mmgraph as mg
from mmgraph import native


def main(option: str) -> None:
    """Exit with an error message if a check fails."""
    home = Path(mg.__file__).resolve().parent
    if home == Path(__file__).resolve().parent.parent / "mmgraph":
        sys.exit("check_wheel: the checkout was imported. Run it in another folder.")
    libraries = sorted(path.name for path in (home / "native").glob("kernels-*.so"))
    if option == "--kernels" and not native.is_available():
        sys.exit(f"check_wheel: no kernels were loaded, got files {libraries}.")
    if option == "--pure" and libraries:
        sys.exit(f"check_wheel: a pure wheel must have no kernels, got {libraries}.")
    data = mg.load_dataset("heart")
    train, test = data.split(test_size=0.2, seed=0)
    model = mg.FusionClassifier(seed=0, epochs=1, members=1).fit(train[:100])
    probabilities = model.predict_proba(test)
    if not np.allclose(probabilities.sum(axis=1), 1, atol=1e-6):
        sys.exit("check_wheel: class probabilities must sum to 1.")
    kernels = "compiled kernels" if native.is_available() else "PyTorch operations"
    print(f"mmgraph {mg.__version__}: {len(test)} predictions, {kernels}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "")
