"""Errors of files of results: where they go, and the draft of an unfinished run."""

import json
import resource
from contextlib import suppress

import numpy as np
from filelock import FileLock

from messages.harness import LONG, Case, Command, Trigger, World
from messages.triggers import rank_arguments
from quoit import InputError
from quoit.files.partial_output import PROGRESS, ROWS, Draft, drafting
from quoit.files.readers import Record
from quoit.files.writers import write_records
from quoit.text.tokenizer import Truncation

LIKE = np.empty((0, 4), np.float32)


def draft(world: World, *texts: str, job: str = "job", resume: bool = True) -> None:
    """A bulk run that puts all its texts into the output's draft and ends there, as if it were interrupted."""
    with suppress(KeyboardInterrupt), drafting(world.folder / "out.npy", job, LIKE, resume=resume) as opened:
        fill(opened, texts)
        raise KeyboardInterrupt


def fill(opened: Draft, texts: tuple[str, ...]) -> None:
    new = list(opened.remaining(Record(text, "") for text in texts))
    opened.write(np.ones((len(new), 4), np.float32), len(new), Truncation())


def write_beyond_a_limit(world: World) -> None:
    """A limit on the size of files stands for a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        write_records(world.folder / "out.jsonl", [{"text": LONG}], {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def write_to_a_link(target: str) -> Trigger:
    """Writing to a symbolic link."""

    def trigger(world: World) -> None:
        (world.folder / "out.jsonl").symlink_to(target)
        write_records(world.folder / "out.jsonl", [], {})

    return trigger


def forget_to_resume(world: World) -> None:
    draft(world, "a", "b", resume=False)
    draft(world, "a", "b", "c", resume=False)


def resumed(*texts: str, job: str = "job", name: str = ROWS, content: str | None = None) -> Trigger:
    """A run that is taken up after the texts a and b, and after another content of one of its files."""

    def trigger(world: World) -> None:
        draft(world, "a", "b", resume=False)
        if content is not None:
            (world.folder / ".out.npy.partial" / name).write_text(content)
        draft(world, *texts, job=job)

    return trigger


def lock_that_is_a_folder(world: World) -> None:
    (world.folder / ".out.npy.lock").mkdir()
    draft(world, "a")


def write_while_another_does(world: World) -> None:
    with FileLock(world.folder / ".out.npy.lock"):
        draft(world, "a")


def write_over_a_folder(world: World) -> None:
    (world.folder / "ranking.jsonl").mkdir()
    write_records(world.folder / "ranking.jsonl", [], {})


def embed_without_ids(world: World) -> list[str]:
    world.write("texts.txt", "a\n")
    model = ["-m", str(world.sources.artifact)]
    return ["embed", str(world.folder / "texts.txt"), "-o", str(world.folder / "out.npy"), "--skip-missing", *model]


def embed_onto_its_input(world: World) -> list[str]:
    file = world.write("texts.jsonl", '"a"\n')
    return ["embed", file, "-o", file, "-m", str(world.sources.artifact)]


CASES = [
    Case("an output in use", write_while_another_does, InputError, "/out.npy", "wait for it, or name another"),
    Case(
        "a lock that cannot be taken",
        lock_that_is_a_folder,
        InputError,
        "/out.npy",
        "name a folder you may write to",
    ),
    Case(
        "an unknown kind of output",
        Command("quoit", rank_arguments("-o", "ranking.xml")),
        InputError,
        "'.xml'",
        "end it in one of .jsonl, .parquet",
    ),
    Case("an output that is a folder", write_over_a_folder, InputError, "/ranking.jsonl is a folder", "name a file"),
    Case(
        "an output in no folder",
        lambda world: write_records(world.folder / "absent/ranking.jsonl", [], {}),
        InputError,
        "/absent is no folder",
        "make it, or name another",
    ),
    Case(
        "rows left out of npy", Command("quoit", embed_without_ids), InputError, "/out.npy has no ids", "write .jsonl"
    ),
    Case(
        "its own input",
        Command("quoit", embed_onto_its_input),
        InputError,
        "/texts.jsonl is the output",
        "name another",
    ),
    Case(
        "a draft that nobody asked to discard",
        forget_to_resume,
        InputError,
        "/.out.npy.partial has 2 texts of a run that was not finished",
        "use --resume to go on with it, or --restart to start anew",
    ),
    Case(
        "a draft that lost its rows",
        resumed("a", "b", name=ROWS, content=""),
        InputError,
        "/.out.npy.partial is damaged",
        "use --restart",
    ),
    Case(
        "a draft of other texts",
        resumed("a", "c"),
        InputError,
        "the first 2 texts",
        "use --restart",
    ),
    Case(
        "a draft without its progress",
        resumed("a", "b", name=PROGRESS, content="{"),
        InputError,
        "/progress.json is damaged",
        "use --restart",
    ),
    Case(
        "a draft with progress of another kind",
        resumed("a", "b", name=PROGRESS, content=json.dumps({LONG: 1})),
        InputError,
        "/progress.json is damaged",
        "use --restart",
    ),
    Case(
        "a draft of another job",
        resumed("a", "b", job="other"),
        InputError,
        "/.out.npy.partial has 2 texts of a run with another model",
        "use --restart",
    ),
    Case(
        "a full disk",
        write_beyond_a_limit,
        InputError,
        "/out.jsonl: File too large; it needs 5,013 bytes or more",
        "make room there",
    ),
    Case("a link to itself", write_to_a_link("out.jsonl"), InputError, "/out.jsonl is a symbolic link", "name another"),
    Case("a device as output", write_to_a_link("/dev/null"), InputError, "/out.jsonl is a device", "name another file"),
]
