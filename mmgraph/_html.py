"""Pages of HTML from templates; what is put in is escaped."""

from pathlib import Path
from typing import Any

TEMPLATES = Path(__file__).parent / "templates"


def render(name: str, **values: Any) -> str:  # noqa: ANN401
    """Fill a template in.

    Args:
        name: Its file.
        values: What it asks for; a name that is not given is an error.
    """
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    text = (TEMPLATES / name).read_text(encoding="utf-8")
    return environment.from_string(text).render(**values)
