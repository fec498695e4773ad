"""How many cases there are in all."""

import runpy
from pathlib import Path

from fuzzing import DECLARED

MIN_CASES = 20_000


def test_there_are_at_least_20_000_cases() -> None:
    """Each of them is run: `fuzz` fails a test that runs fewer than it declares."""
    files = [file for file in sorted(Path(__file__).parent.glob("test_fuzz_*.py")) if file != Path(__file__)]
    for file in files:
        runpy.run_path(str(file))
    assert {Path(name).name for name, _ in DECLARED} == {file.name for file in files}
    assert sum(DECLARED.values()) >= MIN_CASES
