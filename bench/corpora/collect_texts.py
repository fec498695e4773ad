"""Makes bench/corpora/texts.jsonl.gz: real texts in fifteen languages, of log-normal length.

    PYTHONPATH=models:. python -m bench.corpora.collect_texts LISTS

English ones are the held-out docstrings and package descriptions of bench/corpora/heldout. The others are Debian's
translated package descriptions: LISTS is a folder of `apt-get -o Dir::State::Lists=LISTS -o Acquire::Languages=…
update` in Debian 12, for LANGUAGES. They keep the licences of their sources. The file is in the repository, so this
needs running only to change it; the translations in the archive may have moved on by then.
"""

import gzip
import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from debian.deb822 import Deb822

from bench.corpora.texts import FILE, read_held_out
from train.fetch import run
from train.sources import describe, tidy

LANGUAGES = ("de", "fr", "it", "es", "pt_BR", "pl", "cs", "da", "ru", "uk", "ja", "ko", "zh_CN", "nl", "fi")
TEXTS = 1_000
ENGLISH_SHARE = 0.4
MEDIAN_TOKENS, SIGMA, SHORTEST, LONGEST = 60, 0.9, 4, 512
CHARACTERS = {"ru": 2.7, "uk": 2.7, "ja": 1.5, "ko": 1.6, "zh_CN": 1.5}
"""Of a token, about; 4 in other languages."""

Found = tuple[str, str]


def english() -> Iterator[Found]:
    """Query and document of the held-out sets."""
    for name in ("docstrings", "debian"):
        for pair in read_held_out(name):
            yield pair["query"], pair["document"]


def translated(lists: Path, language: str) -> Iterator[Found]:
    """Summary and description of packages in a language."""
    (file,) = lists.glob(f"*bookworm_main_i18n_Translation-{language.replace('_', '%5f')}.lz4")
    for paragraph in Deb822.iter_paragraphs(run("/usr/lib/apt/apt-helper", "cat-file", str(file)), use_apt_pkg=False):
        if f"Description-{language}" in paragraph:
            summary, description = describe(paragraph, language)
            yield tidy(summary), description


def take(found: list[Found], characters: int) -> Found:
    """The first text that is long enough, or the longest; cut after the last whole word. It is used up."""
    at = next((place for place, (_, text) in enumerate(found) if len(text) >= characters), None)
    query, text = found.pop(max(range(len(found)), key=lambda place: len(found[place][1])) if at is None else at)
    cut = text[: characters + 1].rsplit(" ", 1)[0] if len(text) > characters else text
    return query, cut[: characters + 1]


def main() -> None:
    """The command line."""
    lists = Path(sys.argv[1])
    generator, shuffle = np.random.default_rng(0), random.Random(0)
    pools = {"en": list(english())} | {language: list(translated(lists, language)) for language in LANGUAGES}
    for pool in pools.values():
        shuffle.shuffle(pool)
    tokens = np.clip(generator.lognormal(np.log(MEDIAN_TOKENS), SIGMA, TEXTS), SHORTEST, LONGEST)
    lines = []
    for count in tokens.tolist():
        language = "en" if generator.random() < ENGLISH_SHARE else str(generator.choice(LANGUAGES))
        query, text = take(pools[language], round(count * CHARACTERS.get(language, 4)))
        lines.append(json.dumps({"language": language, "query": query, "text": text}, ensure_ascii=False))
    with FILE.open("wb") as raw, gzip.GzipFile("", "wb", mtime=0, fileobj=raw) as file:
        file.write(("\n".join(lines) + "\n").encode())
    print(f"{FILE}: {len(lines)} texts")


if __name__ == "__main__":
    main()
