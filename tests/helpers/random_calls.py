"""Random draws in source code that do not come from a generator with a seed."""

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "mmgraph"
GENERATORS = {"default_rng", "Generator", "PCG64", "SeedSequence"}
FUNCTIONS = {
    *("rand", "randn", "randint", "randperm", "normal", "bernoulli", "multinomial"),
    *("rand_like", "randn_like", "randint_like", "poisson", "dropout"),
}
METHODS = {
    *("uniform_", "normal_", "bernoulli_", "exponential_", "random_", "log_normal_"),
    *("cauchy_", "geometric_", "kaiming_uniform_", "kaiming_normal_", "orthogonal_"),
    *("xavier_uniform_", "xavier_normal_", "trunc_normal_"),
}
LAYERS = {"Linear", "Embedding", "Conv1d", "Conv2d", "GRU", "LSTM", "Bilinear"}
STATE = {"manual_seed", "manual_seed_all", "seed", "fork_rng", "set_rng_state"}
SHUFFLED = {"RandomForestRegressor", "ExtraTreeRegressor", "ShuffleSplit"}


def _dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "?"


def _fault(call: ast.Call) -> bool:
    """Return whether a call draws from, or changes, a generator of the process."""
    name = _dotted(call.func)
    root, last = name.split(".")[0], name.split(".")[-1]
    given = {keyword.arg for keyword in call.keywords}
    if root in ("np", "numpy") and ".random." in name:
        return last not in GENERATORS or not call.args
    if root == "random" or name == "RandomState":
        return True
    if root == "torch" and last in STATE:
        return True
    if (root in ("torch", "F") and last in FUNCTIONS) or last in METHODS:
        return "generator" not in given
    if last in LAYERS and root in ("torch", "nn"):
        return True
    shuffles = any(
        k.arg == "shuffle" and isinstance(k.value, ast.Constant) and k.value.value
        for k in call.keywords
        if last.endswith("Fold")
    )
    return (last in SHUFFLED or shuffles) and "random_state" not in given


def unseeded_calls(source: str) -> Iterator[tuple[int, str]]:
    """Yield line and name of every call without a generator or a seed of its own."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and _fault(node):
            yield node.lineno, _dotted(node.func)


def calls_of_package() -> dict[str, set[str]]:
    """Return the names of such calls by file of the package."""
    found: dict[str, set[str]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        for _, name in unseeded_calls(path.read_text(encoding="utf-8")):
            found.setdefault(str(path.relative_to(PACKAGE)), set()).add(name)
    return found
