"""Code that runs code or data of unknown origin, by the syntax tree of the package."""

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2] / "mmgraph"
MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
BUILTINS = {"eval", "exec", "compile", "__import__"}
CALLS = {
    *("torch.load", "torch.jit.load", "torch.hub.load", "torch.package", "os.system"),
    *("os.popen", "yaml.load", "yaml.unsafe_load", "yaml.full_load", "pd.read_pickle"),
    *("runpy.run_path", "importlib.util.spec_from_file_location", "ctypes.CDLL"),
}
# The compiled kernels of the package itself.
OWN_KERNELS = {("native/library.py", "ctypes.CDLL")}
UNSAFE_KEYWORDS = {"allow_pickle", "trust_remote_code", "shell"}


def dotted(node: ast.expr) -> str:
    """Return the name of a call, such as ``torch.load``."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "?"


def dangerous(source: str) -> Iterator[str]:
    """Yield the imports and calls that can run what a file contains."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (x.name for x in node.names if x.name.split(".")[0] in MODULES)
        elif isinstance(node, ast.ImportFrom):
            if (node.module or "").split(".")[0] in MODULES:
                yield str(node.module)
        elif isinstance(node, ast.Call):
            yield from _of_call(node)


def _of_call(node: ast.Call) -> Iterator[str]:
    name = dotted(node.func)
    if name in BUILTINS | CALLS:
        yield name
    options = {keyword.arg: keyword.value for keyword in node.keywords}
    for option in UNSAFE_KEYWORDS & options.keys():
        value = options[option]
        if not (isinstance(value, ast.Constant) and value.value is False):
            yield f"{name}({option})"
    if name in ("np.load", "numpy.load") and "allow_pickle" not in options:
        yield name


def dangerous_uses() -> list[str]:
    """Return file and name of each such use in the package."""
    return [
        f"{path.relative_to(PACKAGE)}: {name}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for name in dangerous(path.read_text(encoding="utf-8"))
        if (str(path.relative_to(PACKAGE)), name) not in OWN_KERNELS
    ]
