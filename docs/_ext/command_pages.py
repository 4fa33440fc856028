"""The page of commands and options, generated from the command line itself."""

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import typer
from sphinx.application import Sphinx
from typer.main import get_command

HEAD = """# Command line

Commands of `mmgraph`, as `mmgraph COMMAND --help` prints them. Errors in data or
options print one line and exit with code 2.
"""


def write_page(app: Sphinx) -> None:
    """Write the page where its content has changed."""
    group = _group()
    parts = [HEAD]
    for name in sorted(group.commands):
        parts += _section(name, group.commands[name])
    page = Path(app.srcdir) / "api" / "generated" / "command_line.md"
    page.parent.mkdir(parents=True, exist_ok=True)
    text = "\n".join(parts) + "\n"
    if not page.exists() or page.read_text(encoding="utf-8") != text:
        page.write_text(text, encoding="utf-8")


def _group() -> Any:
    """Return the commands: the application that `mmgraph.cli` registers them with."""
    import_module("mmgraph.cli")
    import_module("mmgraph.__main__")  # imports every command
    applications = {
        id(value): value
        for name, module in list(sys.modules.items())
        if name.startswith("mmgraph.cli")
        for value in vars(module).values()
        if isinstance(value, typer.Typer)
    }
    [largest] = [
        app for app in applications.values() if len(app.registered_commands) > 1
    ]
    return get_command(largest)


def _section(name: str, command: Any) -> list[str]:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option"]
    usage = " ".join(["mmgraph", name, *map(_usage, arguments), "[OPTIONS]"])
    lines = [f"## mmgraph {name}", "", "```text", usage, "```", ""]
    for paragraph in (command.help or "").split("\n\n"):
        if paragraph.startswith("\b"):
            lines += ["```text", paragraph.strip("\b\n"), "```", ""]
        else:
            lines += [_plain(paragraph), ""]
    if command.epilog:
        lines += [_plain(command.epilog), ""]
    for parameter in [*arguments, *options]:
        if getattr(parameter, "hidden", False):
            continue
        lines += _entry(parameter)
    return lines


def _usage(argument: Any) -> str:
    name = argument.metavar or argument.name.upper()
    name = f"{name}..." if argument.nargs != 1 else name
    return name if argument.required else f"[{name}]"


def _entry(parameter: Any) -> list[str]:
    if parameter.param_type_name == "argument":
        title = parameter.metavar or parameter.name.upper()
    else:
        title = ", ".join([*parameter.opts, *parameter.secondary_opts])
        title += f" {parameter.metavar}" if parameter.metavar else ""
    text = _plain(getattr(parameter, "help", None) or "")
    default = parameter.default
    if parameter.required and parameter.param_type_name == "option":
        text += " Required."
    if (
        "default" not in text
        and isinstance(default, str | int | float)
        and not isinstance(default, bool)
    ):
        text += f" Default: {default}."
    return [f"`{title}`", f": {text.strip() or '-'}", ""]


def _plain(text: str) -> str:
    """Return help text that Markdown does not read as markup."""
    words = " ".join(text.split())
    for mark in "*_<[":
        words = words.replace(mark, "\\" + mark)
    return words


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect the extension."""
    app.connect("builder-inited", write_page)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
