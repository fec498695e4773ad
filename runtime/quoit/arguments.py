"""Check keyword arguments: whole numbers, booleans, names of other libraries, and unknown names."""

import functools
import inspect
import logging
import operator
from collections.abc import Awaitable, Callable, Mapping
from difflib import get_close_matches
from typing import Any, ParamSpec, TypeVar, cast

import numpy as np

from quoit.errors import InputError, shown

COUNTERPARTS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("truncate_dim", "dimensions", "output_dim", "output_dimension"), ("dim",)),
    **dict.fromkeys(("show_progress_bar", "progress_bar", "use_tqdm", "verbose"), ("show_progress",)),
    **dict.fromkeys(("normalize_embeddings", "norm"), ("normalize",)),
    **dict.fromkeys(("batch_size", "chunk_size"), ("batch_tokens",)),
    **dict.fromkeys(("device", "providers", "execution_provider", "backend"), ("provider",)),
    **dict.fromkeys(("precision", "output_dtype", "embedding_type"), ("dtype", "precision")),
    **dict.fromkeys(("dtype", "torch_dtype", "quantization", "use_fp16"), ("dtype", "precision")),
    **dict.fromkeys(("max_length", "max_seq_length", "model_max_length", "max_len"), ("max_tokens",)),
    **dict.fromkeys(("num_threads", "n_threads", "intra_op_num_threads"), ("threads",)),
    **dict.fromkeys(("num_workers", "parallel", "n_jobs", "pool"), ("workers",)),
    **dict.fromkeys(("task", "task_description", "query_instruction"), ("instruction",)),
    **dict.fromkeys(("top_n", "k", "limit"), ("top_k",)),
    **dict.fromkeys(("return_text", "return_texts", "return_docs"), ("return_documents",)),
    **dict.fromkeys(("apply_softmax", "apply_sigmoid", "raw_scores"), ("activation",)),
    **dict.fromkeys(("activation_fn", "activation_fct", "function_to_apply"), ("activation",)),
}
"""Names that other libraries give to an option, each with the names that quoit uses, the likeliest first."""

SYNONYMS: Mapping[str, str] = {
    "normalize_embeddings": "normalize",
    "precision": "dtype",
    "show_progress_bar": "show_progress",
    "truncate_dim": "dim",
}
"""Options of sentence-transformers' `encode` and `predict` that are understood there, with quoit's names of them."""
WITHOUT_EFFECT: Mapping[str, tuple[object, ...]] = {
    "batch_size": (),
    "convert_to_numpy": (True,),
    "convert_to_tensor": (False,),
    "output_value": ("sentence_embedding",),
    "show_progress_bar": (None,),
}
"""Options of sentence-transformers that change nothing, with the values at which that is so; none for any value."""
FOREIGN = SYNONYMS.keys() | WITHOUT_EFFECT.keys()

NOTES: Mapping[str, str] = {
    "convert_to_numpy": "results are numpy arrays already, so leave it out",
    "convert_to_tensor": "results are numpy arrays; torch.from_numpy makes tensors of them",
    **dict.fromkeys(
        ("task_type", "input_type"),
        "call encode_query() or encode_document(), which put the checkpoint's own prompts before texts",
    ),
    "output_value": "every text gives one vector, so leave it out",
    **dict.fromkeys(("cache_folder", "cache_dir"), "QUOIT_CACHE names the folder of what is fetched; leave it out"),
    **dict.fromkeys(("trust_remote_code", "model_kwargs"), "an artifact has no code that could run; leave it out"),
    "revision": "name it as ORG/NAME@REVISION, and leave this out",
    **dict.fromkeys(("token", "local_files_only"), "set HF_TOKEN or HF_HUB_OFFLINE, and leave it out"),
}
"""Option names of other libraries that have no counterpart in quoit, each with advice for the error message."""

logger = logging.getLogger("quoit")

P = ParamSpec("P")
R = TypeVar("R")


def integer(value: object) -> int | None:
    """Return the value as an int if it is an integer of Python or numpy; None for a bool or anything else."""
    if isinstance(value, (bool, np.bool_)):
        return None
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        return None


def check_number(name: str, value: object, least: int, most: int | None = None, *, advice: str = "") -> int:
    """Return the value as an int, after a check that it is a whole number within bounds.

    Args:
        name: name of the option, for the error.
        value: value that the caller gave.
        least: smallest value allowed.
        most: largest value allowed; None for no limit.
        advice: text at the end of the error.

    Raises:
        InputError: the value is not a whole number, or is out of bounds.
    """
    number = integer(value)
    if number is None or number < least or (most is not None and number > most):
        bounds = f"from {least} on" if most is None else f"from {least} to {most}"
        raise InputError(f"{name} {shown(value)} must be a whole number {bounds}{advice}")
    return number


def flag(name: str, value: object) -> bool:
    """Return the value as a bool.

    Raises:
        TypeError: the value is neither True nor False; None, 0 and 1 are refused too.
    """
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} is {type(value).__name__} {shown(value)}; make it True or False")
    return bool(value)


def with_synonyms(method: Callable[P, R]) -> Callable[P, R]:
    """Return a method that understands sentence-transformers' names of its options too.

    Options that change nothing are left out: `batch_size` too, since batches are made by tokens here. All others are
    passed on, for `refuse_unknown`.

    Raises:
        TypeError: at the call: an option was given under both names.
    """
    own, title = inspect.signature(method).parameters, method.__qualname__

    @functools.wraps(method)
    def call(*positional: P.args, **given: P.kwargs) -> R:
        for name in given.keys() & FOREIGN:
            value = given[name]
            if name in WITHOUT_EFFECT and _changes_nothing(name, value):
                logger.debug("%s() leaves out %s=%s, which changes nothing here", title, name, shown(value))
                del given[name]
            elif (option := SYNONYMS.get(name, "")) in own:
                if given.get(option, own[option].default) != own[option].default:
                    raise TypeError(f"{title}() was given {option}= and {name}=, which are the same; leave out {name}=")
                given[option] = given.pop(name)
        return method(*positional, **given)

    if not inspect.iscoroutinefunction(method):
        return call

    @functools.wraps(method)
    async def answer(*positional: P.args, **given: P.kwargs) -> Any:
        return await cast("Awaitable[Any]", call(*positional, **given))

    return cast("Callable[P, R]", answer)


def _changes_nothing(name: str, value: object) -> bool:
    values = WITHOUT_EFFECT[name]
    return not values or any(value is each or (isinstance(value, str) and value == each) for each in values)


def refuse_unknown(owner: type, method: str, unknown: Mapping[str, object]) -> None:
    """Refuse keyword arguments that a public method does not have.

    Raises:
        TypeError: there is an unknown argument; the message names the matching option, or all options.
    """
    if unknown:
        name = next(iter(unknown))
        raise TypeError(f"{called(owner, method)} has no option {shown(name)}; {advice(owner, method, name)}")


def advice(owner: type, method: str, name: str) -> str:
    """Return advice on what to write instead of an option that a method does not have."""
    if name in NOTES:
        return NOTES[name]
    own = options(getattr(owner, method))
    candidates = COUNTERPARTS.get(name, (name,))
    for option in candidates:
        if option in own:
            return f"use {option}="
    others = ["__init__", *(other for other in vars(owner) if not other.startswith("_"))]
    for option in candidates:
        for other in others:
            if option in options(getattr(owner, other)):
                return f"use {option}= of {called(owner, other)}"
    close = "".join(f"use {option}=; " for option in get_close_matches(name, own, 1))
    return f"{close}it takes {', '.join(own)}"


def options(method: Callable[..., object]) -> list[str]:
    """Return the names of a method's keyword-only parameters; empty if `method` is not callable."""
    if not callable(method):
        return []
    parameters = inspect.signature(method).parameters.values()
    return [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]


def called(owner: type, method: str) -> str:
    """Return a method's name as its caller writes it."""
    return f"{owner.__name__}()" if method == "__init__" else f"{owner.__name__}.{method}()"
