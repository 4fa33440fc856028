"""Events of the interpreter while untrusted files are loaded: run as a program.

Every loader runs twice, since its first call imports modules; the events of the second
call are printed.
"""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

WATCHED = (
    "exec",
    "compile",
    "import",
    "pickle.",
    "marshal.",
    "ctypes.dlopen",
    "os.exec",
)
WATCHED += ("subprocess.Popen", "os.system", "os.posix_spawn", "shutil.", "code.")


def loaders(folder: Path) -> dict[str, Callable[[], object]]:
    """Write a file for every loader, and return the loaders."""
    import numpy as np

    import mmgraph as mg
    from mmgraph.config import read_run_file
    from mmgraph.retrieval import Index
    from mmgraph.workflows.saved_model import Columns

    x = np.random.default_rng(0).normal(size=(40, 4))
    data = mg.MultimodalData.from_arrays({"a": x[:, :2], "b": x[:, 2:]}, y=x[:, 0] > 0)
    small = {"epochs": 1, "members": 1, "hidden_channels": 8, "experts": ("linear",)}
    model = mg.FusionClassifier(**small).fit(data)
    Columns("classification", "y", {}, None, None).save(model, folder / "model")
    data.to_parquet(folder / "data.parquet")
    (folder / "table.csv").write_text("u,v\n1,2\n3,4\n", encoding="utf-8")
    (folder / "run.json").write_text('{"epochs": 3}', encoding="utf-8")
    Index(np.arange(40), x.astype(np.float32)).save(folder / "index")
    schema = data.schema.to_json()
    table = folder / "table.csv"
    return {
        "checkpoint": lambda: mg.FusionClassifier.from_pretrained(folder / "model"),
        "columns": lambda: Columns.load(folder / "model"),
        "index": lambda: Index.load(folder / "index"),
        "Parquet": lambda: mg.MultimodalData.from_parquet(folder / "data.parquet"),
        "CSV": lambda: mg.MultimodalData.from_parquet(
            table, modalities={"t": ["u", "v"]}, y=None
        ),
        "schema": lambda: mg.Schema.from_json(schema),
        "run file": lambda: read_run_file(folder / "run.json"),
    }


def main() -> None:
    """Print one line per event of a second load."""
    active: list[str] = []
    seen: list[str] = []

    def hook(event: str, _: tuple[object, ...]) -> None:
        if active and event.startswith(WATCHED):
            seen.append(f"{active[0]}: {event}")

    with tempfile.TemporaryDirectory() as folder:
        found = loaders(Path(folder))
        for load in found.values():
            load()
        sys.addaudithook(hook)
        for name, load in found.items():
            active.append(name)
            load()
            active.clear()
    print("\n".join(seen))
    print(f"loaders: {len(found)}")


if __name__ == "__main__":
    main()
