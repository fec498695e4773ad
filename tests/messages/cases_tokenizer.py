"""Errors of texts to token ids: the tokenizer of an artifact, and `max_tokens`."""

from pathlib import Path

from tokenizers import Tokenizer, models

from messages.harness import Case, World
from messages.triggers import load, with_manifest
from quoit import ArtifactError, InputError
from quoit.artifact import TOKENIZER, read_artifact
from quoit.text.tokenizer import TextTokenizer
from support import byte_tokenizer


def encode_what_the_tokenizer_cannot(world: World) -> object:
    """A vocabulary of words without one for unknown words."""
    artifact = read_artifact(world.sources.artifact)
    tokenizer = byte_tokenizer()
    words = Tokenizer(models.WordLevel(tokenizer.get_vocab(with_added_tokens=True), unk_token="none"))
    words.post_processor = tokenizer.post_processor
    words.save(str(world.folder / TOKENIZER))
    return TextTokenizer.load(world.folder / TOKENIZER, artifact.manifest).encode(["unheard-of"])


CASES = [
    Case(
        "the tokenizer appends another token",
        with_manifest(lambda found: found["contract"].update(end_token_id=255)),
        ArtifactError,
        "appends [256]",
        "export the artifact again",
    ),
    Case(
        "the tokenizer has more ids than the model",
        with_manifest(lambda found: found.update(vocab_size=256)),
        ArtifactError,
        "ids up to 256",
        "export the artifact again",
    ),
    Case("no room for a text", load(max_tokens=1), InputError, "max_tokens 1 ", "a whole number from 2"),
    Case("more tokens than the model takes", load(max_tokens=4096), InputError, "max_tokens 4096 ", "to 2048"),
    Case("tokens by half", load(max_tokens=8.5), InputError, "max_tokens 8.5 ", "a whole number from 2"),
    Case(
        "no tokenizer",
        lambda world: TextTokenizer.load(
            Path(world.write(TOKENIZER, "{}")), read_artifact(world.sources.artifact).manifest
        ),
        ArtifactError,
        "/tokenizer.json is no readable tokenizer",
        "export the artifact again",
    ),
    Case(
        "a text that the tokenizer cannot encode",
        encode_what_the_tokenizer_cannot,
        InputError,
        "'unheard-of'",
        "check their characters",
    ),
]
