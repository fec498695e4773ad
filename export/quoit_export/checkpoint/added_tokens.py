"""Check that no file beside tokenizer.json adds or changes a token of it.

transformers adds tokens that tokenizer_config.json, special_tokens_map.json or added_tokens.json name, and takes their
flags from `added_tokens_decoder`. quoit reads only tokenizer.json. So an entry that would change it is refused by its
name.
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
    """Refuse files beside tokenizer.json that add a token to it or change one.

    Args:
        tokenizer: the tokenizer of tokenizer.json.
        settings: the content of tokenizer_config.json.
        folder: the folder of the files.
        rules: the rules by which transformers reads the family's tokenizers.
        rebuilt: True if transformers builds the tokenizer anew, with only the added tokens that `added_tokens_decoder`
            lists.

    Raises:
        CheckpointError: a file adds or changes a token, or leaves one out of `added_tokens_decoder`.
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
    """Refuse a special token that a prompt or template writes and tokenizer.json lacks.

    Raises:
        CheckpointError: tokenizer.json lacks a special token that a prompt or template writes, or has a token as an
            ordinary one that a file names as special.
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
    """Refuse a special token in a text that is put before a caller's text, since all text there is read as plain.

    Raises:
        CheckpointError: a text contains a special token.
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
    """Return the special tokens of tokenizer_config.json by role, for roles that have a single token."""
    return {role: next(_contents(settings[role])) for role in SPECIAL_TOKENS if _is_token(settings.get(role))}


def named_tokens(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (role, token) for each special token that a file names.

    A token is a text, an object with `content`, or an item of a list or map of both.
    """
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
    """Return a token of `added_tokens_decoder`; missing flags get the defaults of the tokenizers library."""
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
