"""Read the tuning file: the threads, workers and batch budget that `quoit bench` found best, and where they hold.

A tuning holds for one artifact, precision, provider, kind of processor, number of cores and version of onnxruntime;
anywhere else it is refused. Settings change the speed and never the answers.
"""

import platform
from pathlib import Path
from typing import Annotated, Literal, get_args

import msgspec

from quoit.artifact import Artifact, Digest, Positive, Precision, ProviderName, is_file
from quoit.errors import InputError, brief, shown
from quoit.fingerprint import digest
from quoit.machine import cache_folder, cpu_name, usable_cores
from quoit.ort.providers import Choice, onnxruntime_version

TUNING_FORMAT = 1
MAX_TUNING_BYTES = 1 << 16

Goal = Literal["latency", "throughput"]
Count = Annotated[int, msgspec.Meta(ge=1, le=1 << 20)]


class Setting(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Threads, workers, batch budget and spinning of a run, as in `quoit.engine.options.Options`."""

    threads: Count
    workers: Count
    batch_tokens: Count
    spinning: bool = True


class Place(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The artifact, the machine and the software that a tuning holds for.

    Attributes:
        artifact: hash of the variant's files and the tokenizer.
        precision: precision of the variant.
        provider: provider that ran it.
        processor: name and architecture of the processor.
        cores: number of cores that the process could use.
        onnxruntime: distribution and version of onnxruntime.
    """

    artifact: Digest
    precision: Precision
    provider: ProviderName
    processor: str
    cores: Positive
    onnxruntime: str

    @classmethod
    def here(cls, artifact: Artifact, choice: Choice) -> "Place":
        """Return the place of this machine, with an artifact and the chosen provider and precision."""
        manifest = artifact.manifest
        files = (manifest.tokenizer, *manifest.variants[choice.precision].files)
        return cls(
            artifact=digest([file.sha256 for file in files]),
            precision=choice.precision,
            provider=choice.provider,
            processor=f"{cpu_name()} ({platform.machine()})",
            cores=usable_cores(),
            onnxruntime=onnxruntime_version(),
        )

    def file(self) -> Path:
        """Return the file in the user's cache folder where `quoit bench` keeps the tuning of this place."""
        return tuning_folder() / f"{digest(*msgspec.structs.astuple(self))}.json"


class Tuning(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of a tuning file.

    Attributes:
        format: TUNING_FORMAT.
        place: the place that it holds for.
        latency: best setting for one text at a time.
        throughput: best setting for many texts.
    """

    format: int
    place: Place
    latency: Setting
    throughput: Setting

    def setting(self, goal: Goal) -> Setting:
        """Return the setting for a goal."""
        return self.latency if goal == "latency" else self.throughput


def tuning_folder() -> Path:
    """Return the folder where `quoit bench` keeps tuning files, in the cache folder."""
    return cache_folder() / "tuning"


def check_goal(goal: str) -> None:
    """Refuse an unknown goal.

    Raises:
        InputError: the goal is neither `latency` nor `throughput`.
    """
    if goal not in get_args(Goal):
        raise InputError(f"tuned {shown(goal)} is unknown; use one of {', '.join(get_args(Goal))}")


def read_tuning(artifact: Artifact, choice: Choice, file: str | Path | None) -> Tuning:
    """Read the tuning for an artifact, with the chosen provider and precision, on this machine.

    Args:
        artifact: the artifact to run.
        choice: the provider and precision to run it with.
        file: a tuning file; by default the one that `quoit bench` keeps for this place.

    Raises:
        InputError: the file does not exist, is not a tuning file, or was made for another place.
    """
    here = Place.here(artifact, choice)
    path = here.file() if file is None else Path(file)
    make = f"make one with `quoit bench {artifact.folder} --precision {choice.precision}`"
    if not is_file(path):
        found = f"nothing was tuned for {artifact.folder} here" if file is None else f"{shown(str(path))} is no file"
        raise InputError(f"{found}; {make}")
    with path.open("rb") as source:
        content = source.read(MAX_TUNING_BYTES)
    tuning = _decode(path, content, make)
    for name in here.__struct_fields__:
        if getattr(tuning.place, name) != getattr(here, name):
            raise InputError(
                f"{path} was made for {name} {shown(getattr(tuning.place, name))}, and this is "
                f"{shown(getattr(here, name))}; {make}"
            )
    return tuning


def _decode(path: Path, content: bytes, remedy: str) -> Tuning:
    try:
        tuning = msgspec.json.decode(content, type=Tuning)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{path} is no tuning file: {brief(error)}; {remedy}") from error
    if tuning.format != TUNING_FORMAT:
        raise InputError(f"{path} has format {tuning.format}, this quoit reads {TUNING_FORMAT}; {remedy}")
    return tuning
