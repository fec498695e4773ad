"""The added tokens of a tokenizer, and what files beside tokenizer.json would make of them in transformers.

transformers adds tokens that tokenizer_config.json, special_tokens_map.json or added_tokens.json name, and takes their
flags from `added_tokens_decoder`. quoit reads tokenizer.json alone, so whatever changes it is refused by its name.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer

from quoit.artifact import TOKENIZER
from quoit.errors import shown
from quoit.text.tokenizer import refusing
from quoit_export.checkpoint.json_files import read_optional_json
from quoit_export.errors import CheckpointError
from quoit_export.known_keys import SPECIAL_TOKENS
from quoit_export.tokenizer_rules import TokenizerRules

TOKENIZER_SETTINGS = "tokenizer_config.json"
SPECIAL_MAP = "special_tokens_map.json"
ADDED = "added_tokens.json"
DECODER = "added_tokens_decoder"
FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")
SAVE_AGAIN = "save the tokenizer again with transformers' save_pretrained"


def check_added_tokens(
    tokenizer: Tokenizer, settings: Mapping[str, Any], folder: Path, rules: TokenizerRules, *, rebuilt: bool
) -> None:
    """No file beside tokenizer.json adds a token to it or changes one.

    Args:
        tokenizer: of tokenizer.json.
        settings: tokenizer_config.json.
        folder: where the files lie.
        rules: how transformers reads the family's tokenizers.
        rebuilt: whether transformers builds the tokenizer anew, with the added tokens that `added_tokens_decoder` lists
            and no others.

    Raises:
        CheckpointError: a file does.
    """
    own = {str(number): token for number, token in tokenizer.get_added_tokens_decoder().items()}
    listed = settings.get(DECODER) or {}
    decoder = listed if isinstance(listed, dict) else {}
    file = folder / TOKENIZER_SETTINGS
    for number, token in decoder.items():
        found = _added(token, file, rules)
        _check_known(tokenizer, found.content, number, file, rules)
        if number not in own:
            raise CheckpointError(
                f"{file} adds the token {shown(found.content)}, which is an ordinary one in {TOKENIZER}; {SAVE_AGAIN}"
            )
        changed = [flag for flag in FLAGS if getattr(found, flag) != getattr(own[number], flag)]
        if changed:
            raise CheckpointError(
                f"{file} sets {changed[0]} of the token {shown(found.content)} to {getattr(found, changed[0])}, and "
                f"{TOKENIZER} to {getattr(own[number], changed[0])}; {SAVE_AGAIN}"
            )
    for name, number in read_optional_json(folder / ADDED).items():
        _check_known(tokenizer, name, number, folder / ADDED, rules)
    lost = next((token.content for number, token in own.items() if number not in decoder), None)
    if rebuilt and decoder and lost is not None:
        raise CheckpointError(
            f"{file} leaves {shown(lost)} out of {DECODER}, so transformers' {rules.default_class} reads it as plain "
            f"text, and {TOKENIZER} does not; {SAVE_AGAIN}"
        )


def check_texts(tokenizer: Tokenizer, settings: Mapping[str, Any], folder: Path, texts: Iterable[str]) -> None:
    """No token that a file names as special is missing from tokenizer.json where a prompt or template writes it.

    Raises:
        CheckpointError: one is, or one that a file names as special is an ordinary one in tokenizer.json.
    """
    written = tuple(texts)
    own = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    for source, named in ((TOKENIZER_SETTINGS, settings), (SPECIAL_MAP, read_optional_json(folder / SPECIAL_MAP))):
        for role, token in named_tokens(named):
            if not token or token in own:
                continue
            if tokenizer.token_to_id(token) is not None:
                raise CheckpointError(
                    f"{folder / source} names {shown(token)} as {role}, which is an ordinary token in {TOKENIZER}; "
                    f"{SAVE_AGAIN}"
                )
            if any(token in text for text in written):
                raise CheckpointError(
                    f"{folder / TOKENIZER} lacks {shown(token)}, which {source} names as {role} and a prompt or "
                    f"template writes; {SAVE_AGAIN}"
                )


def check_plain(tokenizer: Tokenizer, file: Path, texts: Iterable[str]) -> None:
    """No special token stands in a text that is put before a caller's: there all text is plain.

    Raises:
        CheckpointError: one does.
    """
    special = [token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special]
    for text in texts:
        found = next((token for token in special if token in text), None)
        if found is not None:
            raise CheckpointError(
                f"{file} has the special token {shown(found)} in a prompt, {shown(text)}, and quoit would read it as "
                "plain text; remove it if the model was trained without it, or ask for its support"
            )


def special_tokens(settings: Mapping[str, Any]) -> dict[str, str]:
    """The special tokens that tokenizer_config.json names one of for a role, by that role."""
    return {role: next(_contents(settings[role])) for role in SPECIAL_TOKENS if _is_token(settings.get(role))}


def named_tokens(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The special tokens that a file names, with their roles: texts, objects with `content`, lists and maps of both."""
    for role in SPECIAL_TOKENS:
        for token in _contents(settings.get(role)):
            yield role, token


def _is_token(value: object) -> bool:
    return isinstance(value, str) or (isinstance(value, dict) and isinstance(value.get("content"), str))


def _contents(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict) and isinstance(value.get("content"), str):
        yield value["content"]
    elif isinstance(value, (list, dict)):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _contents(one)


def _added(token: object, file: Path, rules: TokenizerRules) -> AddedToken:
    """A token of `added_tokens_decoder`, with the defaults of tokenizers for flags that are not there."""
    known: dict[str, Any] = token if isinstance(token, dict) else {"content": token}
    with refusing(CheckpointError, f"{file} adds the token {shown(token)}", rules.remedy):
        return AddedToken(known["content"], **{flag: bool(known[flag]) for flag in FLAGS if flag in known})


def _check_known(tokenizer: Tokenizer, token: object, number: object, file: Path, rules: TokenizerRules) -> None:
    with refusing(CheckpointError, f"{file} adds the token {shown(token)}", rules.remedy):
        known = tokenizer.token_to_id(token) if isinstance(token, str) else None
    if str(known) != str(number):
        raise CheckpointError(
            f"{file} adds the token {shown(token)} as id {shown(number)}, which {TOKENIZER} does not have; {SAVE_AGAIN}"
        )
