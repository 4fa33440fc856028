"""Pages of public names: links to them, their members, bases and arguments."""

import inspect
import re
from importlib import import_module
from pkgutil import resolve_name
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.domains.python import PyObject

import mmgraph

MODULES = ("mmgraph.nn", "mmgraph.metrics", "mmgraph.missing", "mmgraph.baselines")
MORE_MODULES = ("mmgraph.losses", "mmgraph.serving")

ARRAY = re.compile(
    r"numpy\.ndarray\[tuple\[~?typing\.Any, \.\.\.\], "
    r"~?numpy\.dtype\[[^\[\]]*(\[[^\[\]]*\])?\]\]"
)


def public_names() -> dict[str, str]:
    """Return the full public name of every public object, by its last part.

    Names of the package itself come first: ``Classification`` is ``mmgraph.``, not
    ``mmgraph.nn.``.
    """
    found = {name: f"mmgraph.{name}" for name in mmgraph.__all__}
    for module in (*MODULES, *MORE_MODULES):
        for name in import_module(module).__all__:
            found.setdefault(name, f"{module}.{name}")
    return found


def resolve(
    app: Sphinx, env: Any, node: nodes.Element, contnode: nodes.Node
) -> nodes.Node | None:
    """Resolve a reference to the page of a public name, or show it as text.

    Annotations name the module where a class is defined; its page has the public
    name. Internal names and those of other libraries stay text. A role in prose that
    names nothing that exists is left to Sphinx, which warns.
    """
    if node.get("refdomain") != "py":
        return None
    target = node.get("reftarget", "")
    parts = target.split(".")
    for size in (1, 2):  # a class or function; a method
        last = parts[-size:]
        full = app.env.mmgraph_public.get(last[0])
        if full is None or len(last) < size:
            continue
        wanted = ".".join([full, *last[1:]])
        if wanted == target:
            continue
        domain = env.get_domain("py")
        moved = node.copy()
        moved["reftarget"] = wanted
        made = domain.resolve_any_xref(
            env, node.get("refdoc"), app.builder, wanted, moved, contnode
        )
        if made:
            return made[0][1]
    written_by_hand = "refwarn" in node
    return None if written_by_hand and not _exists(target) else contnode


def _exists(target: str) -> bool:
    """Return True for the full name of an object of the package."""
    if not target.startswith("mmgraph."):
        return False
    try:
        resolve_name(target)
    except (ImportError, AttributeError, ValueError):
        return False
    return True


def skip_member(
    app: Sphinx, what: str, name: str, obj: Any, skip: bool, options: Any
) -> bool | None:
    """Leave out members that another library defines: they have a page there."""
    function = inspect.unwrap(obj) if callable(obj) else obj
    module = getattr(function, "__module__", None) or ""
    is_request = name.startswith("set_") and name.endswith("_request")
    if is_request or (callable(obj) and module and not module.startswith("mmgraph")):
        return True
    return None


def show_bases(
    app: Sphinx, name: str, obj: Any, options: Any, bases: list[Any]
) -> None:
    """Replace internal base classes by their public or external ancestors."""
    public = app.env.mmgraph_public.values()
    found: list[Any] = []
    waiting = list(bases)
    while waiting:
        base = waiting.pop(0)
        module = getattr(base, "__module__", "")
        if not module.startswith("mmgraph"):
            if base.__name__ not in ("object", "ABC", "Protocol", "Generic"):
                found.append(base)
        elif any(full.endswith(f".{base.__name__}") for full in public):
            found.append(base)
        else:
            waiting = [*base.__bases__, *waiting]
    bases[:] = list(dict.fromkeys(found)) or [object]


def name_arrays(
    app: Sphinx,
    what: str,
    name: str,
    obj: Any,
    options: Any,
    signature: str | None,
    returned: str | None,
) -> tuple[str | None, str | None]:
    """Show an array as ``ndarray``: docstrings have its shape and type."""

    def shortened(text: str | None) -> str | None:
        return None if text is None else ARRAY.sub("numpy.ndarray", text)

    return shortened(signature), shortened(returned)


def tidy(app: Sphinx, doctree: nodes.document) -> None:
    """Drop ``Bases: object`` and set a dash between a parameter and its text."""
    for paragraph in list(doctree.findall(nodes.paragraph)):
        if paragraph.astext() == "Bases: object":
            paragraph.parent.remove(paragraph)
    for text in list(doctree.findall(nodes.Text)):
        if text == " -- ":
            text.parent.replace(text, nodes.Text(" \N{EN DASH} "))


def inherit_arguments(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Show the arguments of an inherited ``__init__`` on the page of the class."""
    if what != "class" or not inspect.isclass(obj) or "__init__" in vars(obj):
        return
    if any(line.strip() in ("Args:", "Attributes:") for line in lines):
        return
    for base in obj.__mro__[1:]:
        if "__init__" in vars(base) and base.__module__.startswith("mmgraph"):
            document = inspect.cleandoc(base.__doc__ or "")
            _, found, rest = document.partition("\nArgs:\n")
            if found:
                section = rest.split("\n\n")[0].splitlines()
                where = next(
                    (i for i, line in enumerate(lines) if line == "Example:"),
                    len(lines),
                )
                lines[where:where] = ["", "Args:", *section, ""]
            return


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect the extension."""
    app.connect(
        "builder-inited",
        lambda app: setattr(app.env, "mmgraph_public", public_names()),
    )
    app.connect("missing-reference", resolve)
    app.connect("autodoc-skip-member", skip_member)
    app.connect("autodoc-process-bases", show_bases)
    app.connect("autodoc-process-signature", name_arrays)
    app.connect("doctree-read", tidy)
    for field in PyObject.doc_field_types:
        if field.name == "variable":
            field.label = "Attributes"
    # Before napoleon turns sections into fields.
    app.connect("autodoc-process-docstring", inherit_arguments, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
