"""Tell names of models on the Hugging Face hub from paths."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

HUB_NAME = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?", re.ASCII)
PATH_BEGINS = (".", "/", "~")
COMMIT = re.compile("[0-9a-f]{40}")


@dataclass(frozen=True)
class HubName:
    """A repository on the hub, and a branch, tag or commit of it; None for its main branch."""

    repository: str
    revision: str | None = None

    def __str__(self) -> str:
        """Return the name as it is written: `ORG/NAME` or `ORG/NAME@REVISION`."""
        return self.repository if self.revision is None else f"{self.repository}@{self.revision}"

    @property
    def folder(self) -> str:
        """Return the name of the folder or file that holds what is known of the repository."""
        return self.repository.replace("/", "--")


def hub_name(name: str) -> HubName | None:
    """Return a name as one of the hub; None if it is a path.

    It is a path if it begins like one, if there is such a file or folder, or if the folder that it would lie in exists.
    """
    found = read_hub_name(name)
    if found is None or name.startswith(PATH_BEGINS):
        return None
    path = Path(name)
    return None if path.parent.is_dir() or os.path.lexists(path) else found


def read_hub_name(name: str) -> HubName | None:
    """Return a name as one of the hub, whatever files there are; None if no repository can have it."""
    found = HUB_NAME.fullmatch(name)
    return None if found is None else HubName(found["repository"], found["revision"])
