"""Where the two packages raise errors, and which of these places an error came from."""

import ast
import traceback
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import quoit
import quoit_export


class Site(NamedTuple):
    """A raise statement: the file, the function around it, and its number among that function's."""

    file: str
    function: str
    number: int


PACKAGES = tuple(Path(str(package.__file__)).parent for package in (quoit, quoit_export))
ANSWERED = "quoit/server/"
"""Where errors become answers to requests: `tests/server` asks for them, and no caller in Python sees them."""
EXCLUDED: dict[Site, str] = {
    Site("quoit/ort/session.py", "Session.run", 1): "an ended run, which the scheduler that ended it catches",
    Site(
        "quoit_export/checkpoint/templates.py", "_refuse", 1
    ): "an error of a chat template, which `read_template` catches",
}
"""Sites without a case, and why."""


@cache
def raise_sites() -> dict[Site, range]:
    """Every raise statement of both packages that makes an error, and its lines; others pass one on."""
    found: dict[Site, range] = {}
    for package in PACKAGES:
        for file in sorted(package.rglob("*.py")):
            name = file.relative_to(package.parent).as_posix()
            if name.startswith(ANSWERED):
                continue
            for function, statement in raises_below(ast.parse(file.read_text(encoding="utf-8")), ""):
                number = sum(site[:2] == (name, function) for site in found) + 1
                found[Site(name, function, number)] = range(statement.lineno, (statement.end_lineno or 0) + 1)
    return found


def raises_below(node: ast.AST, function: str) -> Iterator[tuple[str, ast.Raise]]:
    """The raise statements below a node that make an error, and their functions' names, in the order of the source."""
    for child in ast.iter_child_nodes(node):
        inner = function
        if isinstance(child, (ast.FunctionDef, ast.ClassDef)):
            inner = f"{function}.{child.name}".lstrip(".")
        if isinstance(child, ast.Raise) and isinstance(child.exc, ast.Call):
            yield function, child
        yield from raises_below(child, inner)


def origin(trace: TracebackType | None) -> Site | None:
    """The raise statement that an error of ours came from."""
    ours = [
        (Path(frame.f_code.co_filename), line)
        for frame, line in traceback.walk_tb(trace)
        if any(Path(frame.f_code.co_filename).is_relative_to(package) for package in PACKAGES)
    ]
    if not ours:
        return None
    file, line = ours[-1]
    name = next(file.relative_to(package.parent).as_posix() for package in PACKAGES if file.is_relative_to(package))
    return next((site for site, lines in raise_sites().items() if site.file == name and line in lines), None)
