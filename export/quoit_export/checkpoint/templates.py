"""Read a reranker's chat template, and find the text that it puts around a query and a document.

The template is rendered with probe texts, in the sandbox that transformers uses. The result is compared with
Qwen3-Reranker's three labelled fields (model card, Qwen/Qwen3-Reranker-0.6B). So a template is recognised by its
effect, and not by its own text. This module does not know about tokens.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from jinja2.sandbox import ImmutableSandboxedEnvironment

from quoit.artifact import is_file
from quoit.text.prompts import DEFAULT_TASK, RERANK_PREFIX, RERANK_SUFFIX, render_pairs
from quoit_export.checkpoint.added_tokens import special_tokens
from quoit_export.checkpoint.json_files import read_optional_json

TEMPLATE = "chat_template.jinja"
OLDER_TEMPLATE = "chat_template.json"
MAX_CHARACTERS = 1 << 16
"""Maximum characters of a template; Qwen3's own chat template has 4,100."""

PAIRS = (("  first\nquery ", " a document\n\n"), ("second <query>", ""), ("", "3"))
INSTRUCTIONS = ("Judge it ", " As\nthis")
"""Probe instructions; white space at the ends of the probe texts reveals a template that trims its input."""


@dataclass(frozen=True)
class Template:
    """Text that a template puts around the three fields.

    Attributes:
        prefix: the text before the fields.
        suffix: the text after the fields.
        instruction: the instruction that is used if the caller gives none.
    """

    prefix: str
    suffix: str
    instruction: str

    @property
    def official(self) -> bool:
        """True if the template renders pairs as Qwen3-Reranker's does."""
        return (self.prefix, self.suffix) == (RERANK_PREFIX, RERANK_SUFFIX)


OFFICIAL = Template(RERANK_PREFIX, RERANK_SUFFIX, DEFAULT_TASK)


def read_template(folder: Path, settings: dict[str, Any], options: dict[str, Any]) -> Template | None:
    """Return the template of a checkpoint's folder, or None if none renders a query and a document.

    Args:
        folder: the folder of the tokenizer's files.
        settings: the content of its tokenizer_config.json.
        options: arguments of the rendering, `processing_kwargs["chat_template"]` of sentence-transformers.
    """
    source = _read_source(folder, settings)
    if source is None or len(source) > MAX_CHARACTERS:
        return None
    known = special_tokens(settings) | {"add_generation_prompt": False} | options
    try:
        environment: Any = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        # The operators *, ** and % are refused. Padding filters and nested loops are not bounded: do not export a
        # checkpoint that you distrust.
        environment.intercepted_binops = frozenset(("*", "**", "%"))
        environment.call_binop = _refuse
        template = environment.from_string(source, globals={"raise_exception": _refuse})
        return _recognise(lambda messages: str(template.render(known | {"messages": messages})))
    except Exception:  # a foreign template may raise any exception; then it renders no pair
        return None


def _read_source(folder: Path, settings: dict[str, Any]) -> str | None:
    """Return the template's text, from the first of the places where transformers looks for it."""
    file = folder / TEMPLATE
    found: object = None
    if is_file(file):
        found = file.read_text(encoding="utf-8", errors="replace")
    else:
        found = read_optional_json(folder / OLDER_TEMPLATE).get("chat_template") or settings.get("chat_template")
    return found if isinstance(found, str) else None


def _refuse(*arguments: object) -> NoReturn:
    """Raise ValueError; templates call this when they cannot render the messages."""
    raise ValueError(arguments)


def _messages(pair: tuple[str, str], instruction: str | None) -> list[dict[str, str]]:
    """Return a pair as the messages that sentence-transformers passes to a template."""
    roles = zip(("system", "query", "document"), (instruction, *pair), strict=True)
    return [{"role": role, "content": content} for role, content in roles if content is not None]


def _recognise(render: Callable[[list[dict[str, str]]], str]) -> Template | None:
    """Return the text around the fields of the probe pairs.

    None unless every rendered pair has the three fields, with the same text around them.
    """
    around = set()
    for pair in PAIRS:
        for instruction in INSTRUCTIONS:
            (fields,) = render_pairs([pair], instruction, "\n")
            prefix, found, suffix = render(_messages(pair, instruction)).partition(fields)
            around.add((prefix, suffix) if found else None)
    (same,) = around if len(around) == 1 else (None,)
    if same is None:
        return None
    prefix, suffix = same
    (fields,) = render_pairs([PAIRS[0]], "", "\n")
    label, rest = fields.partition("\n")[0], "\n" + fields.partition("\n")[2]
    without = render(_messages(PAIRS[0], None))
    start, end = prefix + label, rest + suffix
    if not (without.startswith(start) and without.endswith(end)) or len(without) < len(start) + len(end):
        return None
    return Template(prefix, suffix, without[len(start) : len(without) - len(end)])
