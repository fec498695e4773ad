"""Every error that quoit raises has a case: its message names the offending value and says what to do next.

The cases are in `messages/cases_*.py`, one file an area. A case makes the real thing happen. The last test reads the
source, and fails where an error has no case. `pytest tests/test_messages.py -k artifact` runs one area.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

from messages.harness import Case, Command, Sources, World
from messages.raise_sites import EXCLUDED, Site, origin, raise_sites
from messages.sources import make_sources

LONGEST_MESSAGE = 600
AREAS = sorted((Path(__file__).parent / "messages").glob("cases_*.py"))


def read_cases() -> Iterator[tuple[str, Case]]:
    """Each case of each area, and the id of its test: `area: name`."""
    for file in AREAS:
        for case in import_module(f"messages.{file.stem}").CASES:
            yield f"{file.stem.removeprefix('cases_')}: {case.name}", case


CASES = [pytest.param(case, id=name) for name, case in read_cases()]
COMMANDS = [pytest.param(case, id=name) for name, case in read_cases() if isinstance(case.trigger, Command)]


@dataclass(frozen=True)
class Outcome:
    """What a case raised, and where."""

    kind: type[BaseException] | None
    message: str
    site: Site | None


Run = Callable[[Case], Outcome]


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    return make_sources(tmp_path_factory.mktemp("sources"))


@pytest.fixture(scope="module")
def run(sources: Sources, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """What a case raises; each happens once."""

    @cache
    def outcome(case: Case) -> Outcome:
        with pytest.MonkeyPatch.context() as patch:
            try:
                case.trigger(World(tmp_path_factory.mktemp("case"), patch, sources))
            except Exception as error:
                return Outcome(type(error), str(error), origin(error.__traceback__))
        return Outcome(None, "", None)

    return outcome


@pytest.mark.parametrize("case", CASES)
def test_an_error_names_the_value_and_the_next_step(run: Run, case: Case) -> None:
    found = run(case)
    assert found.kind is case.error, found
    assert found.site is not None, "the error came from no raise statement of ours"
    assert case.value in found.message
    assert case.step in found.message
    assert len(found.message.splitlines()) == 1
    assert len(found.message) < LONGEST_MESSAGE
    assert not re.search(r"Traceback|0x[0-9a-f]{6,}", found.message), "names an internal"


@pytest.mark.parametrize("case", COMMANDS)
def test_a_command_says_it_in_one_line_and_exits_with_2(
    case: Case, sources: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert isinstance(case.trigger, Command)
    world = World(tmp_path, monkeypatch, sources)
    capfd.readouterr()
    code = case.trigger.main(world)
    printed, report = capfd.readouterr()
    assert (code, printed) == (2, "")
    assert report.startswith(f"{case.trigger.program}: ")
    assert report.endswith("\n")
    assert len(report.splitlines()) == 1
    assert case.value in report
    assert case.step in report


def test_both_programs_are_among_the_commands() -> None:
    programs = [case.trigger.program for _, case in read_cases() if isinstance(case.trigger, Command)]
    assert set(programs) == {"quoit", "quoit-export"}


def test_every_error_that_is_raised_has_a_case(run: Run) -> None:
    fired = {run(case).site for _, case in read_cases()}
    missing = {
        f"{site.file}:{lines.start} {site.function}, raise {site.number}"
        for site, lines in raise_sites().items()
        if site not in fired and site not in EXCLUDED
    }
    assert not missing, "errors without a case:\n" + "\n".join(sorted(missing))
    assert EXCLUDED.keys() <= raise_sites().keys() - fired, "excluded in vain"
