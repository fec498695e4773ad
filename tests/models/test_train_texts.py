"""models/train: where the pairs come from, and how they are divided."""

import gzip
import json
import sys
import zipfile
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from train import sources, splits
from train.fetch import LANGUAGES, WHEELS, fetch, run
from train.pairs import Pair, read_pairs, write_pairs
from training import (
    HELD_OUT,
    PARAGRAPH,
    make_pairs,
)


@pytest.mark.parametrize("name", ["pairs.jsonl", "pairs.jsonl.gz"])
def test_pairs_come_back_as_they_were_written(tmp_path: Path, name: str) -> None:
    pairs = [*make_pairs(3), Pair("wordnet", "wordnet/é", 'a "quoted"\nline', "日本語 \\ \t")]
    assert write_pairs(tmp_path / name, pairs) == len(pairs)
    assert read_pairs(tmp_path / name) == pairs


def test_only_a_gz_file_is_compressed(tmp_path: Path) -> None:
    for name in ("pairs.jsonl", "pairs.jsonl.gz"):
        write_pairs(tmp_path / name, make_pairs(100))
    plain, compressed = ((tmp_path / name).read_bytes() for name in ("pairs.jsonl", "pairs.jsonl.gz"))
    assert gzip.decompress(compressed) == plain
    assert [json.loads(line)["query"] for line in plain.splitlines()] == [pair.query for pair in make_pairs(100)]


@pytest.mark.parametrize("ending", ["jsonl", "jsonl.gz"])
def test_the_same_pairs_give_the_same_bytes(tmp_path: Path, ending: str) -> None:
    files = [tmp_path / f"{name}.{ending}" for name in ("first", "second")]
    for file in files:
        write_pairs(file, iter(make_pairs(50)))
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.parametrize("line", ['{"source": "debian"}', '["debian", "a", "b", "c"]', '{"query": 3}'])
def test_a_line_that_is_no_pair_is_an_error(tmp_path: Path, line: str) -> None:
    file = tmp_path / "pairs.jsonl"
    write_pairs(file, make_pairs(2))
    file.write_text(file.read_text() + line + "\n")
    with pytest.raises(msgspec.ValidationError):
        read_pairs(file)


def test_a_command_that_fails_ends_with_what_it_said() -> None:
    assert run(sys.executable, "-c", "print('fine')") == "fine\n"
    with pytest.raises(SystemExit, match=r"failed \(3\): no such luck"):
        run(sys.executable, "-c", "import sys; print('no such luck', file=sys.stderr); sys.exit(3)")


def test_what_was_fetched_is_not_fetched_again(tmp_path: Path) -> None:
    (tmp_path / "complete").touch()
    fetch(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["complete"]


@pytest.mark.parametrize(
    ("text", "tidied"),
    [
        ("Joins :func:`~os.path.join` and :meth:`!close`.", "Joins os.path.join and close."),
        ("See :ref:`the tutorial <tut-start>` or :py:class:`dict`.", "See the tutorial or dict."),
        ("Read `the manual <https://example.org/a>`_ and `more <https://example.org>`__.", "Read the manual and more."),
        ("``None`` is **not**\n   a\tvalue ", "None is not a value"),
        ("", ""),
    ],
)
def test_tidy_text_is_what_a_reader_sees(text: str, tidied: str) -> None:
    assert sources.tidy(text) == tidied


def test_a_long_text_is_cut_after_a_whole_word() -> None:
    for size in range(3, 9):
        text = " ".join(["x" * size] * 1000)
        cut = sources.tidy(text)
        assert set(cut.split(" ")) == {"x" * size}
        assert sources.LONGEST_DOCUMENT - size - 1 <= len(cut) <= sources.LONGEST_DOCUMENT
    longest = "y" * sources.LONGEST_DOCUMENT
    assert sources.tidy(longest) == longest


@pytest.mark.parametrize(
    ("query", "document", "fine"),
    [
        ("sum", PARAGRAPH, True),
        ("su", PARAGRAPH, False),
        ("a summary", "too short to say more", False),
        (PARAGRAPH.upper(), PARAGRAPH, False),
    ],
)
def test_a_usable_pair_is_long_enough_and_says_two_things(query: str, document: str, fine: bool) -> None:
    assert sources.usable(Pair("debian", "debian/a", query, document)) is fine


def write_wordnet(folder: Path, **lines: list[str]) -> None:
    """The four data files of WordNet, each with a licence of two lines."""
    data = folder / "wordnet-base" / "usr" / "share" / "wordnet"
    data.mkdir(parents=True)
    licence = ["  1 This software and database is being provided to you | the LICENSEE", "  2 under WordNet 3.0."]
    for part in ("noun", "verb", "adj", "adv"):
        (data / f"data.{part}").write_text("\n".join([*licence, *lines.get(part, [])]) + "\n")


def test_wordnet_pairs_words_with_their_gloss(tmp_path: Path) -> None:
    write_wordnet(
        tmp_path,
        noun=[
            "00001740 03 n 01 entity 0 003 ~ 00001930 n 0000 ~ 00002137 n 0000 ~ 04424418 n 0000 | what exists  ",
            "02084071 05 n 02 domestic_dog 0 Canis_familiaris 0 000 | a member of the genus Canis",
            "03001627 06 n 0b " + " ".join(f"word_{n} 0" for n in range(11)) + " 001 @ 04161981 n 0000 | eleven words",
        ],
        verb=['00001740 29 v 02 breathe 0 take_a_breath 0 001 * 1 n 0000 01 + 02 00 | draw air; "I can breathe"'],
        adj=["00013887 00 a 02 galore(ip) 0 well_off(p) 0 001 & 0 a 0000 | existing in abundance"],
    )
    assert list(sources.wordnet(tmp_path)) == [
        Pair("wordnet", "wordnet/entity", "entity", "what exists"),
        Pair("wordnet", "wordnet/word 0", ", ".join(f"word {n}" for n in range(11)), "eleven words"),
        Pair("wordnet", "wordnet/breathe", "breathe, take a breath", 'draw air; "I can breathe"'),
        Pair("wordnet", "wordnet/galore", "galore, well off", "existing in abundance"),
    ]


def write_debian(folder: Path, families: dict[str, str], texts: dict[str, dict[str, tuple[str, str]]]) -> None:
    """The package list, and for each language the summaries and descriptions of packages."""
    with (folder / "binary-amd64_Packages").open("w") as file:
        for package, source in families.items():
            file.write(f"Package: {package}\n" + (f"Source: {source}\n" if source else "") + "Version: 1.0\n\n")
    for language in LANGUAGES:
        with (folder / f"i18n_Translation-{language}").open("w") as file:
            for package, (summary, description) in texts.get(language, {}).items():
                field = f"Description-{language}: {summary}\n {description}\n"
                file.write(f"Package: {package}\nDescription-md5: {'0' * 32}\n{field}\n")


def test_debian_pairs_summaries_with_descriptions_in_all_languages(tmp_path: Path) -> None:
    english = {
        "libfoo1": ("foo library", "Foo does things.\n .\n And ``more`` things."),
        "bar": ("bar reader", "Reads bars."),
        "gone": ("not in the archive", "Nothing."),
    }
    translated = {language: {"libfoo1": (f"foo in {language}", f"Text in {language}.")} for language in LANGUAGES[1:]}
    translated["de"] |= {"bar": ("bar reader", "Nur der Text."), "new": ("neu", "Nur deutsch.")}
    families = {"libfoo1": "foo (1.0-2)", "bar": "", "new": ""}
    write_debian(tmp_path, families, {"en": english} | translated)

    found = list(sources.debian(tmp_path))
    expected = [
        Pair("debian", "debian/foo", "foo library", "Foo does things. And more things."),
        Pair("debian", "debian/bar", "bar reader", "Reads bars."),
    ]
    for language in LANGUAGES[1:]:
        expected += [
            Pair(f"debian-{language}", "debian/foo", f"foo in {language}", f"Text in {language}."),
            Pair(f"debian-en-{language}", "debian/foo", "foo library", f"Text in {language}."),
        ]
        expected += [Pair("debian-de", "debian/new", "neu", "Nur deutsch.")] if language == "de" else []
    assert found == expected


PAGE = """
:mod:`!heapq` --- Heap queue
============================

.. module:: heapq
   :synopsis: Heaps.

Heaps are binary trees. They keep :func:`sorted` things nearly sorted.

Basic Examples
--------------

A heapsort pushes all values. It then pops them.

Why would one?
--------------

Because it is fast.
"""


def write_page(folder: Path, name: str, text: str) -> None:
    """A page of Python's documentation."""
    file = folder / "python3.11-doc" / "usr/share/doc/python3.11/html/_sources" / f"{name}.rst.txt"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def test_python_docs_pair_titles_with_the_text_below(tmp_path: Path) -> None:
    write_page(tmp_path, "library/heapq", PAGE)
    write_page(tmp_path, "about", "A page without any title.\n")
    title = "heapq --- Heap queue"
    first, second, third = (f"docs/library/heapq#{name}" for name in (title, "Basic Examples", "Why would one?"))
    rest = "They keep sorted things nearly sorted."
    assert list(sources.python_docs(tmp_path)) == [
        Pair("docs", first, title, f"Heaps are binary trees. {rest}"),
        Pair("docs", first, "Heaps are binary trees.", rest),
        Pair("docs", second, f"{title}: Basic Examples", "A heapsort pushes all values. It then pops them."),
        Pair("docs", second, "A heapsort pushes all values.", "It then pops them."),
        Pair("docs", third, "Why would one?", "Because it is fast."),
        Pair("docs", third, "Because it is fast.", ""),
    ]


MODULE = f'''
"""The module's own docstring is no pair.

{PARAGRAPH}
"""

class Box:
    """A ``Box`` of things.

    {PARAGRAPH}
    """

    def take(self, count, *, strict=False):
        """Take things
        out.

        {PARAGRAPH}
        """

def short():
    """Only a summary."""

def brief():
    """A summary.

    And little.
    """
'''


def test_docstrings_pair_the_summary_with_the_rest() -> None:
    assert list(sources.module_docstrings(MODULE.encode(), "docstrings/box")) == [
        Pair("docstrings", "docstrings/box", "A Box of things.", f"Box: {PARAGRAPH}"),
        Pair("docstrings", "docstrings/box", "Take things out.", f"take(count): {PARAGRAPH}"),
    ]


@pytest.mark.parametrize("source", [b"print 'Python 2'", b"def f(:", b"x = '\xff'", b"a = 1\x00"])
def test_source_that_does_not_parse_yields_nothing(source: bytes) -> None:
    assert list(sources.module_docstrings(MODULE.encode() + source, "docstrings/box")) == []


def write_wheels(folder: Path, functions: int = 1) -> None:
    """A wheel for every pin, with as many documented functions, and a test that is left out."""
    for pin in WHEELS:
        package, _, version = pin.partition("==")
        name = package.replace("-", "_")
        words = " ".join(f"{name}{at}" for at in range(12))
        documented = "".join(
            f'def {name.lower()}_{n}():\n    """Number {n} of {package}.\n\n    {n}: {words}\n    """\n'
            for n in range(functions)
        )
        with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
            archive.writestr(f"{name}/core.py", documented)
            archive.writestr(f"{name}/tests/test_core.py", documented.replace("Number", "Test"))
            archive.writestr(f"{name}/data.txt", documented)


def test_docstrings_are_read_from_every_wheel(tmp_path: Path) -> None:
    write_wheels(tmp_path)
    packages = [pin.partition("==")[0] for pin in WHEELS]
    found = list(sources.docstrings(tmp_path))
    assert [pair.group for pair in found] == [f"docstrings/{package}" for package in packages]
    assert [pair.query for pair in found] == [f"Number 0 of {package}." for package in packages]


@pytest.mark.parametrize("source", ["debian", "debian-de", "debian-en-it", "wordnet"])
def test_a_group_is_on_one_side_whatever_its_texts(source: str) -> None:
    for number in range(50):
        pairs = [Pair(source, f"group/{number}", f"query {n}", f"document {n}") for n in range(3)]
        assert len({splits.split_of(pair) for pair in pairs}) == 1


def test_translations_are_held_out_with_their_package() -> None:
    for pair in make_pairs(200):
        translated = Pair("debian-de", pair.group, "Titel", "Beschreibung")
        assert splits.split_of(translated) == splits.split_of(pair)


def test_about_a_tenth_of_the_groups_are_held_out() -> None:
    shares = Counter(map(splits.split_of, make_pairs(5000)))
    assert shares["held-out"] / 5000 == pytest.approx(splits.HELD_OUT_PERCENT / 100, abs=0.02)
    assert shares["development"] / 5000 == pytest.approx(splits.DEVELOPMENT_PERCENT / 100, abs=0.01)


def test_docstrings_are_split_by_package_and_docs_are_for_training() -> None:
    def split_of(source: str, group: str) -> str:
        return splits.split_of(Pair(source, group, "query", "document"))

    groups = [f"docstrings/{pin.partition('==')[0]}" for pin in WHEELS]
    by_split = {group: split_of("docstrings", group) for group in groups}
    assert {group for group in groups if by_split[group] == "held-out"} == splits.HELD_OUT_PACKAGES
    assert {group for group in groups if by_split[group] == "development"} == splits.DEVELOPMENT_PACKAGES
    assert {split_of("docs", f"docs/page#{number}") for number in range(100)} == {"training"}


def test_distinct_pairs_share_neither_query_nor_document() -> None:
    pairs = [Pair("wordnet", "wordnet/a", f"query {n % 7}", f"document {n % 5}") for n in range(70)]
    found = list(splits.distinct(pairs))
    assert found == sorted(found, key=pairs.index)
    assert len({pair.query for pair in found}) == len({pair.document for pair in found}) == len(found) == 5


def test_few_pairs_of_one_debian_family_are_distinct() -> None:
    debian = [Pair("debian", f"debian/{n % 4}", f"query {n}", f"document {n}") for n in range(40)]
    german = [Pair("debian-de", f"debian/{n % 4}", f"Frage {n}", f"Dokument {n}") for n in range(40)]
    wordnet = [Pair("wordnet", "wordnet/a", f"word {n}", f"gloss {n}") for n in range(40)]
    counts = Counter((pair.source, pair.group) for pair in splits.distinct([*debian, *german, *wordnet]))
    families = {(source, f"debian/{n}") for source in ("debian", "debian-de") for n in range(4)}
    assert counts == dict.fromkeys(families, splits.PAIRS_PER_GROUP) | {("wordnet", "wordnet/a"): 40}


def test_a_sample_is_the_same_every_time_and_one_for_a_key() -> None:
    pairs = [Pair("debian", f"debian/{n % 20}", f"query {n}", f"document {n}") for n in range(100)]
    chosen = splits.sample(pairs, 15, splits.family)
    assert chosen == splits.sample(list(pairs), 15, splits.family)
    assert len(chosen) == len({pair.group for pair in chosen}) == 15
    assert len(splits.sample(pairs, 50, splits.family)) == 20
    assert sorted(splits.sample(pairs, 1000), key=pairs.index) == pairs


def test_what_resembles_a_known_pair_is_left_out() -> None:
    words = [f"word{n}" for n in range(40)]
    known = Pair("docstrings", "docstrings/networkx", "Return the graph's nodes.", " ".join(words))

    def pair(query: str, document: list[str]) -> Pair:
        return Pair("docstrings", "docstrings/numpy", query, " ".join(document))

    own = [f"other{n}" for n in range(40)]
    fine = [pair("Add two arrays.", own), pair("Sort an array.", own[:28] + words[:12]), pair("Stop.", own[:2])]
    alike = [pair("return the graph's NODES", own), pair("Copy.", words), pair("Quote.", own[:10] + words[:30])]
    assert list(splits.unlike([*alike, *fine], [known])) == fine


def test_few_pairs_of_each_group_are_the_same_every_time() -> None:
    pairs = [Pair("docstrings", f"docstrings/{n % 3}", f"query {n}", f"document {n}") for n in range(90)]
    few = splits.few_of_each(pairs, 10)
    assert Counter(pair.group for pair in few) == {f"docstrings/{n}": 10 for n in range(3)}
    assert splits.few_of_each(pairs, 10) == few
    assert sorted(splits.few_of_each(pairs, 100), key=pairs.index) == pairs


def test_splits_of_a_small_archive_have_no_group_in_common(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    write_wheels(raw, functions=3)
    write_page(raw, "library/heapq", PAGE)
    glosses = [f"0 03 n 01 word_{n} 0 000 | gloss number {n}, which is long enough to be used" for n in range(300)]
    write_wordnet(raw, noun=glosses)
    packages = {f"package{n}": f"source{n // 2}" for n in range(400)}
    described = {
        language: {name: (f"{name} in {language}", f"{PARAGRAPH} {name} {language}") for name in packages}
        for language in LANGUAGES
    }
    write_debian(raw, packages, described)

    written = []
    for name in ("first", "second"):
        work, held_out = tmp_path / name, tmp_path / name / "heldout"
        held_out.mkdir(parents=True)
        splits.split(raw, work, held_out)
        written.append({file.relative_to(work): file.read_bytes() for file in work.rglob("*.gz")})
    assert written[0] == written[1]

    names = {"training.jsonl.gz", "development.jsonl.gz", *(f"heldout/{name}.jsonl.gz" for name in splits.EVALUATED)}
    assert set(map(str, written[0])) == names
    found = {name: read_pairs(work / name) for name in names}
    sides = {"training.jsonl.gz": "training", "development.jsonl.gz": "development"}
    for name, pairs in found.items():
        assert {splits.split_of(pair) for pair in pairs} == {sides.get(name, "held-out")}
    assert {pair.source for pair in found["training.jsonl.gz"]} == {
        *("wordnet", "docs", "docstrings", "debian"),
        *(f"debian-{language}" for language in LANGUAGES[1:]),
        *(f"debian-en-{language}" for language in LANGUAGES[1:]),
    }


@pytest.mark.parametrize("source", splits.EVALUATED)
def test_the_shipped_pairs_are_distinct_and_held_out(source: str) -> None:
    pairs = read_pairs(HELD_OUT / f"{source}.jsonl.gz")
    assert len(pairs) >= 2_000
    assert len({pair.document for pair in pairs}) == len({pair.query for pair in pairs}) == len(pairs)
    assert {(pair.source, splits.split_of(pair)) for pair in pairs} == {(source, "held-out")}
    assert all(map(sources.usable, pairs))
    if source == "debian":
        assert len({pair.group for pair in pairs}) == len(pairs)
