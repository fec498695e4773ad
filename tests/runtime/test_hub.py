"""Models by name: the real huggingface_hub asks a hub on this machine, which breaks off, lies and refuses."""

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from hub import COMMIT, LFS_BYTES, MODEL, TOKEN, Files, Hub, cut, files_of, point_at, status
from quoit import Embedder, InputError
from quoit.artifact import MANIFEST, Artifact, read_artifact
from quoit.cli.main import main
from quoit.errors import ArtifactError
from quoit.hub.exports import waiting_lock
from quoit.hub.names import HubName, hub_name
from quoit.hub.opening import open_model
from quoit_export.cli import main as export_main

OTHER_COMMIT = "f" * 40
UPLOADING = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
"""huggingface_hub uploads files in a way that its HTTP library will not have for ever."""
TEXTS = ["one", "two words", ""]
DATA = "int8/model.onnx.data"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """quoit's cache, empty."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("QUOIT_CACHE", str(folder))
    return folder


@pytest.fixture
def hub(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub without models, which this process and those that it starts ask."""
    hub = Hub()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no-token"))
    with hub.serving() as endpoint:
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hf"))
        point_at(endpoint, monkeypatch.setattr, tmp_path / "hf")
        yield hub


def go_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def vectors(name: str | Artifact, **options: object) -> np.ndarray:
    with Embedder(name, provider="cpu", **options) as embedder:  # type: ignore[arg-type]
        return embedder.encode(TEXTS)


# ------------------------------------------------------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("name", "repository", "revision"),
    [
        ("Qwen/Qwen3-Embedding-0.6B", "Qwen/Qwen3-Embedding-0.6B", None),
        ("org/name@main", "org/name", "main"),
        ("org/name@refs/pr/1", "org/name", "refs/pr/1"),
        (f"org/na.me_2@{COMMIT}", "org/na.me_2", COMMIT),
    ],
)
def test_a_hub_id_is_no_path(name: str, repository: str, revision: str | None) -> None:
    assert hub_name(name) == HubName(repository, revision)
    assert str(hub_name(name)) == name


@pytest.mark.parametrize(
    "name",
    [
        "model",
        "./org/name",
        "../name",
        "/org/name",
        "~/name",
        "a/b/c",
        "a b/c",
        "org/",
        "/name",
        "",
        "org/name@",
        "órg/n",
    ],
)
def test_a_path_is_no_hub_id(name: str) -> None:
    assert hub_name(name) is None


def test_a_name_below_a_folder_is_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert hub_name("models/one") is not None
    (tmp_path / "models").mkdir()
    assert hub_name("models/one") is None
    with pytest.raises(ArtifactError, match="models/one is not a folder"):
        open_model("models/one")


def test_a_path_object_is_never_looked_up() -> None:
    with pytest.raises(ArtifactError, match="is not a folder"):
        open_model(Path("org/name"))


# --------------------------------------------------------------------------------------------------------- artifacts


def test_an_artifact_of_the_hub_gives_its_vectors(hub: Hub, byte_artifact: Artifact) -> None:
    hub.add(files_of(byte_artifact.folder))
    np.testing.assert_array_equal(vectors(MODEL), vectors(byte_artifact))


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_only_what_runs_is_fetched(hub: Hub, byte_artifact: Artifact, precision: str) -> None:
    hub.add(files_of(byte_artifact.folder) | {"README.md": b"a card", "other/large.bin": bytes(10)})
    vectors(MODEL, precision=precision)
    variant = [record.path for record in byte_artifact.manifest.variants[precision].files]  # type: ignore[index]
    assert sorted(hub.fetched()) == sorted([MANIFEST, "tokenizer.json", *variant])


def test_the_second_time_asks_for_the_commit_alone(hub: Hub, byte_artifact: Artifact) -> None:
    hub.add(files_of(byte_artifact.folder))
    vectors(MODEL)
    hub.requests.clear()
    vectors(MODEL)
    assert hub.requests == [("GET", f"/api/models/{MODEL}")]


def test_a_commit_that_is_here_asks_for_nothing(hub: Hub, byte_artifact: Artifact) -> None:
    hub.add(files_of(byte_artifact.folder))
    vectors(f"{MODEL}@{COMMIT}")
    hub.requests.clear()
    vectors(f"{MODEL}@{COMMIT}")
    assert hub.requests == []


def test_another_variant_is_fetched_when_it_is_asked_for(hub: Hub, byte_artifact: Artifact) -> None:
    hub.add(files_of(byte_artifact.folder))
    vectors(MODEL, precision="int8")
    hub.requests.clear()
    vectors(MODEL, precision="fp32")
    assert sorted(hub.fetched()) == sorted(record.path for record in byte_artifact.manifest.variants["fp32"].files)


def test_what_is_here_works_offline(hub: Hub, byte_artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add(files_of(byte_artifact.folder))
    expected = vectors(MODEL)
    go_offline(monkeypatch)
    np.testing.assert_array_equal(vectors(MODEL), expected)


def test_a_variant_that_is_not_here_is_an_error_offline(
    hub: Hub, byte_artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add(files_of(byte_artifact.folder))
    vectors(MODEL, precision="int8")
    go_offline(monkeypatch)
    with pytest.raises(ArtifactError, match=rf"cannot fetch fp32/\S+ of {MODEL} .*goes on with what is missing"):
        vectors(MODEL, precision="fp32")


def test_a_name_that_was_never_looked_up_is_an_error_offline(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    go_offline(monkeypatch)
    begin = time.monotonic()
    with pytest.raises(ArtifactError, match=f"cannot ask the hub for {MODEL} .*path of a local folder"):
        open_model(MODEL)
    assert time.monotonic() - begin < 5


@pytest.mark.parametrize("code", [429, 500, 503])
def test_a_hub_that_is_busy_is_no_obstacle_to_what_is_here(
    hub: Hub, byte_artifact: Artifact, caplog: pytest.LogCaptureFixture, code: int
) -> None:
    hub.add(files_of(byte_artifact.folder))
    expected = vectors(MODEL)
    hub.faults.append(status(code, "/api/models"))
    with caplog.at_level(logging.WARNING, "quoit"):
        np.testing.assert_array_equal(vectors(MODEL), expected)
    assert f"cannot say what {MODEL} is now (HTTP status {code}); using {COMMIT[:12]}" in caplog.text


def test_a_moved_branch_is_followed(hub: Hub, byte_artifact: Artifact, half_artifact: Artifact) -> None:
    hub.add(files_of(byte_artifact.folder))
    assert open_model(MODEL).folder.name == COMMIT
    hub.add(files_of(half_artifact.folder), commit=OTHER_COMMIT)
    found = open_model(MODEL, "fp16")
    assert found.folder.name == OTHER_COMMIT
    assert "fp16" in found.manifest.variants
    assert open_model(f"{MODEL}@{COMMIT}").folder.name == COMMIT


def test_a_tag_names_its_commit(hub: Hub, byte_artifact: Artifact, half_artifact: Artifact) -> None:
    hub.add(files_of(half_artifact.folder), commit=OTHER_COMMIT)
    hub.add(files_of(byte_artifact.folder), revision="v1")
    assert open_model(f"{MODEL}@v1").folder.name == COMMIT
    with pytest.raises(ArtifactError, match=f"^{MODEL} has no revision 'v2'; name a branch, tag or commit"):
        open_model(f"{MODEL}@v2")


def test_an_absent_or_private_repository_says_what_to_do(hub: Hub, byte_artifact: Artifact) -> None:
    with pytest.raises(ArtifactError, match=f"^{MODEL} is no folder here, and the hub has no such.*hf auth login"):
        open_model(MODEL)
    hub.add(files_of(byte_artifact.folder))
    hub.repositories[MODEL].private = True
    with pytest.raises(ArtifactError, match="or it is private"):
        open_model(MODEL)


def test_a_token_opens_a_private_repository(hub: Hub, byte_artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add(files_of(byte_artifact.folder))
    hub.repositories[MODEL].private = True
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert open_model(MODEL).folder.name == COMMIT


def test_gated_terms_are_named(hub: Hub, byte_artifact: Artifact) -> None:
    hub.add(files_of(byte_artifact.folder))
    hub.faults.append(status(403, "/api/models", X_Error_Code="GatedRepo"))
    with pytest.raises(ArtifactError, match="asks for its terms to be accepted"):
        open_model(MODEL)


def test_a_connection_that_breaks_is_taken_up_where_it_broke(hub: Hub, byte_artifact: Artifact) -> None:
    files = files_of(byte_artifact.folder)
    hub.add(files)
    hub.faults.append(cut(DATA, files[DATA]))
    open_model(MODEL, "int8", "cpu")
    assert hub.fetched().count(DATA) == 2
    np.testing.assert_array_equal(vectors(MODEL), vectors(byte_artifact))


def test_a_run_that_is_interrupted_keeps_whole_files(hub: Hub, byte_artifact: Artifact, cache: Path) -> None:
    files = files_of(byte_artifact.folder)
    hub.add(files)
    hub.faults += [status(404, DATA)] * 2
    with pytest.raises(ArtifactError, match=f"cannot fetch {DATA} of {MODEL} .*goes on with what is missing"):
        open_model(MODEL, "int8", "cpu")
    before = set(hub.fetched())
    hub.faults.clear()
    hub.requests.clear()
    open_model(MODEL, "int8", "cpu")
    assert DATA in hub.fetched()
    assert MANIFEST not in hub.fetched()
    assert before & set(hub.fetched()) <= {DATA}


def test_a_wrong_hash_is_removed_and_fetched_again(hub: Hub, byte_artifact: Artifact) -> None:
    files = files_of(byte_artifact.folder)
    wrong = bytes([files[DATA][0] ^ 1]) + files[DATA][1:]
    hub.add(files | {DATA: wrong})
    with pytest.raises(ArtifactError, match=f"{DATA} of {MODEL} is not what its quoit.json says, and was removed"):
        open_model(MODEL, "int8", "cpu")
    hub.repositories[MODEL].commits[COMMIT] = files
    np.testing.assert_array_equal(vectors(MODEL), vectors(byte_artifact))


def test_a_file_larger_than_recorded_is_not_fetched(hub: Hub, byte_artifact: Artifact) -> None:
    files = files_of(byte_artifact.folder)
    hub.add(files | {DATA: files[DATA] + b"x"})
    with pytest.raises(ArtifactError, match=rf"{DATA} of {MODEL} has [\d,]+ bytes, [\d,]+ at most expected"):
        open_model(MODEL, "int8", "cpu")
    assert DATA not in hub.fetched()


def test_a_manifest_of_gigabytes_is_not_fetched(hub: Hub, byte_artifact: Artifact) -> None:
    hub.add(files_of(byte_artifact.folder) | {MANIFEST: bytes((1 << 20) + 1)})
    with pytest.raises(ArtifactError, match=f"{MANIFEST} of {MODEL} has 1,048,577 bytes, 1,048,576 at most expected"):
        open_model(MODEL)
    assert hub.fetched() == []


def test_a_damaged_manifest_says_so(hub: Hub, byte_artifact: Artifact) -> None:
    hub.add(files_of(byte_artifact.folder) | {MANIFEST: b"{"})
    with pytest.raises(ArtifactError, match="is damaged"):
        open_model(MODEL)


def test_a_cache_that_cannot_be_written_is_an_error(
    hub: Hub, byte_artifact: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add(files_of(byte_artifact.folder))
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("QUOIT_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(ArtifactError, match=f"cannot fetch {MANIFEST} of {MODEL}"):
        open_model(MODEL)


# ------------------------------------------------------------------------------------------------------- checkpoints


@pytest.fixture
def checkpoint(hub: Hub, byte_checkpoint_folder: Path) -> Files:
    """The files of a checkpoint, which the hub has."""
    files = files_of(byte_checkpoint_folder)
    hub.add(files)
    return files


@pytest.mark.usefixtures("checkpoint")
def test_a_checkpoint_is_exported_once(
    hub: Hub, byte_artifact: Artifact, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "quoit"):
        first = vectors(MODEL)
    np.testing.assert_array_equal(first, vectors(byte_artifact))
    folder = cache / "exports" / "some--model" / COMMIT
    source = read_artifact(folder).manifest.source
    assert (source.id, source.revision) == (MODEL, COMMIT)
    assert f"{MODEL} is a checkpoint; it is exported to int8 once, from 0.00 GB of weights" in caplog.text
    assert str(folder) in caplog.text
    caplog.clear()
    hub.requests.clear()
    np.testing.assert_array_equal(vectors(MODEL), first)
    assert not caplog.text
    assert hub.requests == [("GET", f"/api/models/{MODEL}")]


@pytest.mark.usefixtures("checkpoint")
def test_another_precision_is_added(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors(MODEL, precision="fp32")
    vectors(MODEL, precision="fp16")
    go_offline(monkeypatch)
    found = open_model(f"{MODEL}", "fp32", "cpu").manifest.variants
    assert set(found) == {"fp32", "fp16"}
    assert found["fp16"].accepted


@pytest.mark.usefixtures("checkpoint")
def test_a_pinned_revision_is_exported_as_such(hub: Hub, byte_checkpoint_folder: Path) -> None:
    hub.add(files_of(byte_checkpoint_folder) | {"README.md": b"newer"}, commit=OTHER_COMMIT)
    assert open_model(f"{MODEL}@{COMMIT}", "fp32", "cpu").manifest.source.revision == COMMIT
    assert open_model(MODEL, "fp32", "cpu").manifest.source.revision == OTHER_COMMIT


@pytest.mark.usefixtures("checkpoint")
def test_a_checkpoint_that_cannot_be_exported_says_why(hub: Hub, checkpoint: Files, cache: Path) -> None:
    hub.add(checkpoint | {"config.json": checkpoint["config.json"].replace(b"qwen3", b"gpt_x")})
    message = rf"{MODEL} could not be exported to int8 \(exit code 2\); it says: quoit-export: .*gpt_x"
    with pytest.raises(ArtifactError, match=message):
        open_model(MODEL)
    assert not (cache / "exports" / "some--model" / COMMIT).exists()


@pytest.mark.usefixtures("checkpoint")
def test_without_the_extra_for_export_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quoit.hub.exports.PACKAGES", {"absent_module": "absent-package"})
    with pytest.raises(
        ArtifactError, match=r"absent-package for that is not installed; `pip install 'quoit\[export\]'`"
    ):
        open_model(MODEL)


@pytest.mark.usefixtures("checkpoint")
def test_processes_that_ask_at_once_export_once(hub: Hub, cache: Path) -> None:
    program = (
        "import logging, sys; logging.basicConfig(); from quoit.hub.opening import open_model; "
        f"print(open_model({MODEL!r}, 'fp32', 'cpu').folder)"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    answers = [process.communicate(timeout=120) for process in running]
    folder = str(cache / "exports" / "some--model" / COMMIT)
    assert [out.strip() for out, _ in answers] == [folder, folder]
    assert sum("is exported to fp32 once" in err for _, err in answers) == 1


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs POSIX signals")
@pytest.mark.usefixtures("checkpoint")
def test_ctrl_c_leaves_no_artifact_and_the_next_run_goes_on(cache: Path) -> None:
    command = [sys.executable, "-m", "quoit", "doctor", MODEL]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert running.stderr is not None
    assert "is exported to int8 once" in running.stderr.readline()
    time.sleep(0.5)
    os.killpg(running.pid, signal.SIGINT)
    _, error = running.communicate(timeout=60)
    assert running.returncode == 130
    assert error.strip().endswith("quoit: interrupted")
    assert not (cache / "exports" / "some--model" / COMMIT).exists()
    subprocess.run(command, check=True, capture_output=True, timeout=120)


# ------------------------------------------------------------------------------------------------------ command lines


def test_commands_take_a_hub_id(
    hub: Hub, byte_artifact: Artifact, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.add(files_of(byte_artifact.folder))
    texts = tmp_path / "texts.txt"
    texts.write_text("one\ntwo\n")
    assert main(["embed", str(texts), "-o", str(tmp_path / "out.npy"), "-m", MODEL, "--provider", "cpu"]) == 0
    assert np.load(tmp_path / "out.npy").shape == (2, byte_artifact.manifest.dimension)
    assert main(["info", MODEL]) == 0
    assert main(["doctor", MODEL, "--provider", "cpu"]) == 0
    assert MODEL in capsys.readouterr().out


def test_info_fetches_the_manifest_alone(hub: Hub, byte_artifact: Artifact) -> None:
    hub.add(files_of(byte_artifact.folder))
    assert main(["info", MODEL]) == 0
    assert hub.fetched() == [MANIFEST]


@pytest.mark.usefixtures("checkpoint")
def test_info_exports_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", MODEL]) == 2
    assert f"{MODEL} is a checkpoint, and was not exported here; running it by its name" in capsys.readouterr().err
    open_model(MODEL, "fp32", "cpu")
    assert main(["info", MODEL]) == 0
    assert f"embedding model from {MODEL} at {COMMIT}" in capsys.readouterr().out


@pytest.mark.usefixtures("checkpoint")
def test_an_export_that_runs_is_not_pruned(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    open_model(MODEL, "fp32", "cpu")
    folder = cache / "exports" / "some--model" / COMMIT
    with waiting_lock(folder):
        assert main(["cache", "prune", "--all"]) == 0
        assert "0 models removed" in capsys.readouterr().out
    assert main(["cache", "prune", "--all"]) == 0
    assert "1 models removed" in capsys.readouterr().out
    assert not folder.exists()


def test_an_absent_name_is_an_error_of_the_command(hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", MODEL]) == 2
    assert capsys.readouterr().err.startswith(f"quoit: {MODEL} is no folder here, and the hub has no such")


def test_the_cache_is_listed_and_pruned(
    hub: Hub,
    byte_artifact: Artifact,
    byte_checkpoint_folder: Path,
    cache: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    hub.add(files_of(byte_artifact.folder))
    open_model(MODEL, "int8", "cpu")
    hub.add(files_of(byte_artifact.folder) | {"README.md": b"newer"}, commit=OTHER_COMMIT)
    open_model(MODEL, "fp32", "cpu")
    hub.add(files_of(byte_checkpoint_folder), "other/model")
    open_model("other/model", "fp32", "cpu")
    (cache / "exports" / "other--model" / f".{OTHER_COMMIT}.partial").mkdir()
    assert main(["cache", "list"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert listed[0].startswith(f"other/model@{OTHER_COMMIT[:12]}: unfinished")
    assert listed[1].startswith(f"other/model@{COMMIT[:12]}: exported, ")
    assert {line.partition(",")[0] for line in listed[2:4]} == {
        f"{MODEL}@{COMMIT[:12]}: fetched",
        f"{MODEL}@{OTHER_COMMIT[:12]}: fetched",
    }
    assert sum("superseded" in line for line in listed) == 1
    assert listed[4].startswith(f"{cache}: 4 models, ")

    assert main(["cache", "prune", "--dry-run"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "2 models would be removed"
    assert main(["cache", "prune"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("2 models removed, ")
    assert main(["cache", "list"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3
    hub.requests.clear()
    vectors(MODEL, precision="fp32")
    assert hub.fetched() == []

    assert main(["cache", "prune", MODEL]) == 0
    assert main(["cache", "prune", MODEL]) == 2
    assert f"{MODEL} is not in the cache; it has other/model" in capsys.readouterr().err
    assert main(["cache", "prune", "--all", MODEL]) == 2
    assert main(["cache", "prune", "--all"]) == 0
    capsys.readouterr()
    assert main(["cache", "list"]) == 0
    assert capsys.readouterr().out == f"{cache}: 0 models, 0.0 MB\n"


# ------------------------------------------------------------------------------------------------------------ pushing


def push(checkpoint: Path, out: Path, *more: str) -> int:
    return export_main([str(checkpoint), str(out), "--precision", "fp32", "int8", "--push", "org/pushed", *more])


@UPLOADING
def test_a_pushed_artifact_is_fetched_again(
    hub: Hub,
    byte_checkpoint_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert push(byte_checkpoint_folder, tmp_path / "out", "--private") == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"pushed to {hub.endpoint}/org/pushed"
    repository = hub.repositories["org/pushed"]
    assert repository.private
    _, files = repository.files("main") or ("", {})
    assert set(files) == {*files_of(tmp_path / "out"), "README.md", ".gitattributes"}
    assert max(map(len, files.values())) > LFS_BYTES
    np.testing.assert_array_equal(vectors("org/pushed"), vectors(read_artifact(tmp_path / "out")))


@UPLOADING
def test_a_model_card_shows_what_was_measured(
    hub: Hub, byte_checkpoint_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    push(byte_checkpoint_folder, tmp_path / "out")
    _, files = hub.repositories["org/pushed"].files("main") or ("", {})
    card = files["README.md"].decode()
    parity = next(
        one for one in read_artifact(tmp_path / "out").manifest.variants["int8"].parity if one.measure == "cosine"
    )
    assert f"{parity.mean:.5f}, {parity.minimum:.5f}" in card
    assert 'embedder = Embedder("org/pushed")' in card
    assert "library_name: quoit" in card
    assert "pipeline_tag: feature-extraction" in card


@UPLOADING
def test_a_card_that_somebody_wrote_and_foreign_files_stay(
    hub: Hub, byte_checkpoint_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.add({"README.md": b"mine", "notes.txt": b"mine", "fp16/model.onnx": b"older"}, "org/pushed")
    assert push(byte_checkpoint_folder, tmp_path / "out") == 0
    _, files = hub.repositories["org/pushed"].files("main") or ("", {})
    assert (files["README.md"], files["notes.txt"]) == (b"mine", b"mine")
    assert "fp16/model.onnx" not in files
    own = files | {"README.md": f"{card_line()}\nold".encode()}
    hub.add(own, "org/pushed", OTHER_COMMIT)
    assert push(byte_checkpoint_folder, tmp_path / "out") == 0
    _, files = hub.repositories["org/pushed"].files("main") or ("", {})
    assert b"What export measured" in files["README.md"]


def card_line() -> str:
    from quoit_export.push import MADE

    return MADE


@pytest.mark.usefixtures("hub")
def test_nobody_pushes_without_a_token(
    byte_checkpoint_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert push(byte_checkpoint_folder, tmp_path / "out") == 2
    assert "--push org/pushed needs a token of the hub; `hf auth login`, or set HF_TOKEN" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@UPLOADING
def test_a_push_that_fails_keeps_the_artifact(
    hub: Hub,
    byte_checkpoint_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.faults.append(status(403, "/commit/"))
    assert push(byte_checkpoint_folder, tmp_path / "out") == 2
    assert "the same command pushes it again" in capsys.readouterr().err
    assert push(byte_checkpoint_folder, tmp_path / "out") == 0


def test_without_the_hub_package_a_hub_id_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)  # an import block: the tests have it
    with pytest.raises(
        ArtifactError, match=r"org/name is no folder here, and huggingface_hub is not installed.*quoit\[hub\]"
    ):
        open_model("org/name")


def test_an_unknown_precision_is_an_error_before_the_hub_is_asked(hub: Hub) -> None:
    with pytest.raises(InputError, match="precision 'int7' is unknown"):
        open_model(MODEL, "int7")  # type: ignore[arg-type]
    assert hub.requests == []
