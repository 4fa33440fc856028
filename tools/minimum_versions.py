"""Print the lowest version of every dependency that pyproject.toml allows.

The output is a constraints file for pip. ``make minimum`` installs these
versions into a separate environment and runs the fast tests there.

Usage: ``python tools/minimum_versions.py [EXTRA ...] > constraints-minimum.txt``
"""

import re
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# A requirement such as "torch>=2.4", "transformers>=5" or "ray[data]>=2.30".
REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)(?:\[[^\]]*\])?>=([0-9][0-9A-Za-z.]*)")


def lower_bounds(requirements: Iterable[str]) -> dict[str, str]:
    """Map each package to its lower bound.

    Args:
        requirements: Requirement strings as in pyproject.toml. References to other
            extras of mmgraph are skipped.

    Returns:
        Versions by package name.

    Raises:
        ValueError: If a requirement has no lower bound.
    """
    bounds = {}
    for requirement in requirements:
        if requirement.startswith("mmgraph["):
            continue
        match = REQUIREMENT.match(requirement)
        if match is None:
            raise ValueError(
                f"pyproject.toml: {requirement!r} must have a lower bound. "
                f"Write it as 'name>=version'."
            )
        bounds[match[1]] = match[2]
    return bounds


def main(extras: list[str]) -> None:
    """Print one ``name==version`` line for each dependency."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    requirements = list(project["dependencies"])
    for extra in extras:
        requirements += project["optional-dependencies"][extra]
    for name, version in sorted(lower_bounds(requirements).items()):
        print(f"{name}=={version}")


if __name__ == "__main__":
    main(sys.argv[1:])
