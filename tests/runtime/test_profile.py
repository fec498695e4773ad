"""`quoit bench`, the tuning file it writes, and what runs with it."""

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from quoit import Embedder, Reranker
from quoit.artifact import Artifact
from quoit.cli.bench import made_texts
from quoit.cli.main import main
from quoit.engine.profile import TUNING_FORMAT, Place, Setting, Tuning, read_tuning
from quoit.errors import InputError
from quoit.ort.providers import choose
from quoit.tuning.autotune import MIN_TEXTS, Texts, tune


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's cache folder is an empty one."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def tuning_of(artifact: Artifact, latency: Setting, throughput: Setting) -> Tuning:
    place = Place.here(artifact, choose(artifact, "cpu", "int8"))
    return Tuning(format=TUNING_FORMAT, place=place, latency=latency, throughput=throughput)


def write(tuning: Tuning, file: Path, **changes: Any) -> Path:
    """A tuning file, with fields of its place changed."""
    file.parent.mkdir(parents=True, exist_ok=True)
    place = msgspec.structs.replace(tuning.place, **changes)
    file.write_bytes(msgspec.json.encode(msgspec.structs.replace(tuning, place=place)))
    return file


@pytest.fixture
def tuning(byte_artifact: Artifact) -> Tuning:
    """One that no machine would find."""
    return tuning_of(byte_artifact, Setting(1, 1, 77), Setting(2, 2, 99))


def test_bench_writes_what_tuned_reads(
    byte_artifact: Artifact, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(byte_artifact.folder)
    assert main(["bench", folder, "--seconds", "1", "--json", "--provider", "cpu"]) == 0
    shown = capsys.readouterr().out.splitlines()
    found = json.loads(shown[-1])
    assert found["tokens_per_second"] > 0
    assert 0 < found["fraction"] < 1
    assert found["milliseconds"]["p50"] <= found["milliseconds"]["p95"] <= found["milliseconds"]["p99"]
    stored = msgspec.json.decode(Path(found["file"]).read_bytes(), type=Tuning)
    assert msgspec.to_builtins(stored) == found["tuning"]
    assert any(f"{stored.throughput.threads} threads" in line for line in shown)
    assert [file.name for file in Path(found["file"]).parent.iterdir()] == [Path(found["file"]).name]

    texts = tmp_path / "texts.txt"
    texts.write_text("one\ntwo\nthree\n")
    for arguments in ([], ["--tuned"]):
        assert main(["embed", str(texts), "-o", str(tmp_path / f"{len(arguments)}.npy"), "-m", folder, *arguments]) == 0
    np.testing.assert_array_equal(np.load(tmp_path / "0.npy"), np.load(tmp_path / "1.npy"))


def test_bench_takes_a_reranker_and_your_own_texts(
    rerank_artifact: Artifact, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts, out = tmp_path / "texts.txt", tmp_path / "tuning.json"
    texts.write_text("\n".join(made_texts()[:MIN_TEXTS]))
    arguments = ["--texts", str(texts), "--seconds", "1", "-o", str(out), "--precision", "int8", "--provider", "cpu"]
    assert main(["bench", str(rerank_artifact.folder), *arguments]) == 0
    assert "tokens/s" in capsys.readouterr().out
    reranker = Reranker(rerank_artifact, precision="int8", provider="cpu", tuning=out)
    stored = msgspec.json.decode(out.read_bytes(), type=Tuning)
    assert reranker.pipeline.workers == stored.throughput.workers
    assert reranker.pipeline.limits.stream_tokens == stored.throughput.batch_tokens


def test_an_interrupted_bench_leaves_the_old_file(
    byte_artifact: Artifact, tmp_path: Path, tuning: Tuning, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = write(tuning, tmp_path / "tuning.json")
    before = out.read_bytes()

    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("quoit.tuning.autotune.measure_ceilings", interrupted)
    assert main(["bench", str(byte_artifact.folder), "--seconds", "1", "-o", str(out), "--provider", "cpu"]) == 130
    assert out.read_bytes() == before
    assert [file.name for file in tmp_path.glob("*.json")] == ["tuning.json"]


def test_what_is_given_goes_before_what_was_tuned(byte_artifact: Artifact, tuning: Tuning, tmp_path: Path) -> None:
    file = write(tuning, tmp_path / "tuning.json")

    def settings(**options: Any) -> tuple[int, int, int]:
        pipeline = Embedder(byte_artifact, precision="int8", provider="cpu", tuning=file, **options).pipeline
        return pipeline.session.threads * pipeline.workers, pipeline.workers, pipeline.limits.stream_tokens

    assert settings() == settings(tuned="throughput") == (2, 2, 99)
    assert settings(tuned="latency") == (1, 1, 77)
    assert settings(batch_tokens=55) == (2, 2, 55)
    assert settings(workers=1) == (2, 1, 99)
    assert settings(threads=1) == (1, 1, 99)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"processor": "Another CPU"}, "processor 'Another CPU'"),
        ({"cores": 4096}, "cores 4096"),
        ({"onnxruntime": "onnxruntime 0.1"}, "onnxruntime 'onnxruntime 0.1'"),
        ({"artifact": "0" * 64}, "artifact '000"),
        ({"precision": "fp32"}, "precision 'fp32'"),
        ({"provider": "cuda"}, "provider 'cuda'"),
    ],
)
def test_a_tuning_for_another_place_is_refused(
    byte_artifact: Artifact, tuning: Tuning, tmp_path: Path, changes: dict[str, Any], named: str
) -> None:
    file = write(tuning, tmp_path / "tuning.json", **changes)
    with pytest.raises(InputError, match="quoit bench") as refused:
        read_tuning(byte_artifact, choose(byte_artifact, "cpu", "int8"), file)
    assert f"was made for {named}" in str(refused.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\xff\xfe", b"[" * 100_000, b'{"format": 1e400}'])
def test_a_foreign_file_is_refused(byte_artifact: Artifact, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "tuning.json").write_bytes(content)
    with pytest.raises(InputError, match="is no tuning file"):
        read_tuning(byte_artifact, choose(byte_artifact, "cpu", "int8"), tmp_path / "tuning.json")


@pytest.mark.parametrize("threads", [0, -1, 2**40, 1.5, "2", None])
def test_a_setting_out_of_bounds_is_refused(
    byte_artifact: Artifact, tuning: Tuning, tmp_path: Path, threads: object
) -> None:
    document = msgspec.to_builtins(tuning)
    document["throughput"]["threads"] = threads
    file = tmp_path / "tuning.json"
    file.write_text(json.dumps(document))
    with pytest.raises(InputError, match="is no tuning file"):
        Embedder(byte_artifact, precision="int8", provider="cpu", tuning=file)


def test_a_setting_that_is_clearly_slower_does_not_win(
    byte_artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every challenger but the default is made to wait, so the default stays."""
    answer = tune.__globals__["answer"]

    def waiting(pipeline: Any, texts: Any, prompt: str) -> None:
        answer(pipeline, texts, prompt)
        session = pipeline.session
        if (pipeline.workers, pipeline.limits.stream_tokens, session.threads, session.spinning) != (*default, True):
            tune.__globals__["time"].sleep(0.01)

    pipeline = Embedder(byte_artifact, precision="int8", provider="cpu").pipeline
    default = (1, pipeline.limits.stream_tokens, pipeline.session.threads)
    monkeypatch.setitem(tune.__globals__, "answer", waiting)
    texts = [f"text {number}" for number in range(MIN_TEXTS)]
    measured = tune(byte_artifact, Texts(texts, texts), precision="int8", provider="cpu", seconds=0.01)
    expected = Setting(threads=default[2], workers=1, batch_tokens=default[1])
    assert (measured.tuning.latency, measured.tuning.throughput) == (expected, expected)
