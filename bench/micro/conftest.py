"""For pytest-benchmark: what its JSON leaves out, so that it may be kept beside the other results."""

from typing import Any

import pytest


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_machine_info(machine_info: dict[str, Any]) -> None:
    """Leaves out the machine's name; its kind stays."""
    machine_info.pop("node", None)


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_json(output_json: dict[str, Any]) -> None:
    """Leaves out the time of every single call; medians and quartiles stay."""
    for measured in output_json["benchmarks"]:
        measured["stats"].pop("data", None)
