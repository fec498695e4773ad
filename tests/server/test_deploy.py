"""The files for deployment parse, name options that exist, and give the server the time that its settings need."""

import argparse
import configparser
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from quoit.cli.main import make_parser
from quoit.cli.serve import KEY_VARIABLE, run_health, run_serve, settings_of
from quoit.server.guard import OPEN_PATHS
from quoit.server.run import LAST_BATCH_SECONDS, NOT_LOADABLE
from quoit.server.settings import Settings

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "runtime" / "deploy"
UNLOAD_SECONDS = 5
"""Seconds between the last answer and the end of the process, on a busy machine."""
COMPOSED = ("open-webui.yaml", "ragflow.yaml")


def needed_seconds(settings: Settings) -> float:
    """Seconds from the first signal to the end of the process."""
    return settings.max_wait + settings.drain_delay + LAST_BATCH_SECONDS + UNLOAD_SECONDS


def understood(arguments: list[str]) -> argparse.Namespace:
    """The options of a command line, which must be understood whole."""
    return make_parser().parse_args(arguments)


def settings(arguments: list[str], monkeypatch: pytest.MonkeyPatch, *, key: bool) -> Settings:
    """The settings of a command line, whose file of keys is not read."""
    options = understood(arguments)
    assert options.run is run_serve
    options.api_key_file = None
    if key:
        monkeypatch.setenv(KEY_VARIABLE, "key")
    else:
        monkeypatch.delenv(KEY_VARIABLE, raising=False)
    return settings_of(options)


def documents(name: str) -> list[Any]:
    """The documents of a YAML file; `!reset`, a tag of compose, is read as its value."""
    yaml = pytest.importorskip("yaml")
    loader: Any = type("Loader", (yaml.SafeLoader,), {})
    loader.add_constructor("!reset", lambda _, __: [])
    return list(yaml.load_all((FOLDER / name).read_text(encoding="utf-8"), loader))


def instructions() -> list[tuple[str, str]]:
    """The instructions of the Dockerfile, with their lines joined."""
    text = re.sub(r"^#.*\n", "", (FOLDER / "Dockerfile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    joined = re.sub(r"\\\n\s*", "", text)
    found = [line.partition(" ") for line in joined.splitlines() if line.strip()]
    return [(name, rest.strip()) for name, _, rest in found]


def unit(name: str) -> dict[str, dict[str, str]]:
    parser = configparser.ConfigParser(interpolation=None, strict=True)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(FOLDER / name, encoding="utf-8")
    return {section: dict(parser[section]) for section in parser.sections()}


# ------------------------------------------------------------------------------------------------------- containers


def test_the_image_is_made_in_two_stages_and_ends_as_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    found = instructions()
    names = [name for name, _ in found]
    assert set(names) <= {
        *("FROM", "WORKDIR", "COPY", "RUN", "ENV", "USER", "EXPOSE", "STOPSIGNAL", "HEALTHCHECK", "ENTRYPOINT", "CMD")
    }
    assert names.count("FROM") == 2
    last = dict(found[len(names) - 1 - names[::-1].index("FROM") :])
    assert last["FROM"] == "python:3.12-slim"
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", last["USER"])
    assert last["STOPSIGNAL"] == "SIGTERM"
    assert "RUN" not in last, "nothing is installed in the stage that is kept"
    assert json.loads(last["ENTRYPOINT"]) == ["quoit"]
    bound = settings(json.loads(last["CMD"]), monkeypatch, key=True)
    assert (bound.host, str(bound.port)) == ("0.0.0.0", last["EXPOSE"])
    program, *asked = json.loads(last["HEALTHCHECK"].partition(" CMD ")[2])
    assert program == "quoit"
    health = understood(asked)
    assert health.run is run_health
    assert health.url.endswith(f":{last['EXPOSE']}")


def test_the_image_is_built_of_what_is_in_the_repository() -> None:
    kept = [line[1:] for line in (FOLDER / "Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")]
    copied = [
        word
        for name, rest in instructions()
        if name == "COPY" and not rest.startswith("--from")
        for word in rest.split()[:-1]
    ]
    assert sorted(kept) == sorted(copied)
    assert all((ROOT / name).exists() for name in copied)


@pytest.mark.parametrize("name", COMPOSED)
def test_compose_files_run_quoit_with_options_that_exist(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (document,) = documents(name)
    servers = [each for each in document["services"].values() if each["image"].startswith("quoit")]
    assert servers
    for service in servers:
        found = settings(service["command"], monkeypatch, key=KEY_VARIABLE in service.get("environment", {}))
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert service["stop_grace_period"] == f"{needed_seconds(found):.0f}s"
        assert not service.get("ports"), "others reach it inside the network"
        port = int(re.search(r":(\d+)$", service["healthcheck"]["test"][-1])[1]) if "healthcheck" in service else 8080  # type: ignore[index]
        assert port == found.port


def test_open_webui_finds_the_models_by_the_names_that_they_have() -> None:
    """A folder's name is its model's name."""
    (document,) = documents("open-webui.yaml")
    variables = document["services"]["open-webui"]["environment"]
    mounted = [volume.split(":")[-2] for volume in document["services"]["quoit"]["volumes"]]
    assert [f"/{variables['RAG_EMBEDDING_MODEL']}", f"/{variables['RAG_RERANKING_MODEL']}"] == mounted
    assert variables["RAG_EMBEDDING_QUERY_PREFIX"].endswith("\nQuery:")


# ------------------------------------------------------------------------------------------------------ kubernetes


def test_kubernetes_waits_as_long_as_the_server_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    deployment, service, scaler = documents("kubernetes.yaml")
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    found = settings(container["args"], monkeypatch, key=True)
    assert pod["terminationGracePeriodSeconds"] == needed_seconds(found)
    assert (found.max_wait, found.drain_delay) == (Settings().max_wait, Settings().drain_delay)
    port = container["ports"][0]
    assert port["containerPort"] == found.port
    assert service["spec"]["ports"][0]["targetPort"] == port["name"]
    for probe, path in (("startupProbe", "/ready"), ("readinessProbe", "/ready"), ("livenessProbe", "/live")):
        assert container[probe]["httpGet"] == {"path": path, "port": port["name"]}
        assert path in OPEN_PATHS
    noticed = container["readinessProbe"]["periodSeconds"] * container["readinessProbe"]["failureThreshold"]
    assert noticed < found.drain_delay
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert pod["securityContext"]["runAsNonRoot"]
    (user,) = (rest for name, rest in instructions() if name == "USER")
    assert user == f"{pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}"
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert labels == deployment["spec"]["selector"]["matchLabels"] == service["spec"]["selector"]
    assert scaler["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]


def test_the_scaler_looks_at_a_metric_that_exists() -> None:
    *_, scaler = documents("kubernetes.yaml")
    source = (ROOT / "runtime" / "quoit" / "server" / "metrics.py").read_text(encoding="utf-8")
    assert f'"{scaler["spec"]["metrics"][0]["pods"]["metric"]["name"]}"' in source


# --------------------------------------------------------------------------------------------------------- systemd


def test_the_service_of_systemd_waits_as_long_as_the_server_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    service = unit("quoit.service")["Service"]
    program, *arguments = service["ExecStart"].split()
    assert program.endswith("/quoit")
    found = settings(arguments, monkeypatch, key=True)
    assert float(service["TimeoutStopSec"]) == needed_seconds(found)
    assert service["Type"] == "notify"
    assert service["DynamicUser"] == "yes"
    assert "MemoryMax" in service
    assert service["RestartPreventExitStatus"].split() == ["2", str(NOT_LOADABLE)]
    credential = service["LoadCredential"].partition(":")[0]
    assert f"%d/{credential}" in arguments
    assert unit("quoit.socket")["Socket"]["ListenStream"] == f"{Settings().host}:{Settings().port}"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze here")
def test_systemd_understands_the_units(tmp_path: Path) -> None:
    """It says nothing of them; the program that they start is another one here, which exists."""
    text = (FOLDER / "quoit.service").read_text(encoding="utf-8")
    (tmp_path / "quoit.service").write_text(text.replace("/opt/quoit/bin/quoit", "/bin/true"))
    shutil.copy(FOLDER / "quoit.socket", tmp_path)
    command = ["systemd-analyze", "verify", str(tmp_path / "quoit.service"), str(tmp_path / "quoit.socket")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
