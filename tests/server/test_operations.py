"""The server as those who run it meet it: keys, hosts, limits, hostile requests, signals, sockets, metrics and logs.

A server here is a process of its own, started by the command line, except where a test needs other limits.
"""

import json
import logging
import os
import re
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any, cast

import pytest

from quoit.artifact import Artifact
from quoit.cli.main import main
from quoit.cli.serve import KEY_VARIABLE
from quoit.errors import InputError
from quoit.server import listening
from quoit.server import settings as settings_module
from quoit.server.app import State, make_app
from quoit.server.listening import SPARE_CONNECTIONS, bind
from quoit.server.metrics import Metrics
from quoit.server.run import Server, configure, watchdog_seconds
from quoit.server.settings import Settings
from server.running import PATIENCE, Running, ask_port, ask_unix, eventually, metric, send_raw

FILE_KEY, VARIABLE_KEY = "key-of-a-file-5b1c", "key-of-a-variable-9e2f"
ORIGIN = "https://app.example"
BEARER = {"authorization": f"Bearer {FILE_KEY}"}
TEXTS = "/v1/embeddings"
FAST = ("--port", 0, "--drain-delay", 0.3, "--precision", "fp32")


@pytest.fixture(scope="module")
def guarded(byte_artifact: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server with keys, allowed names and one origin, whose log is JSON."""
    keys = tmp_path_factory.mktemp("keys") / "keys.txt"
    keys.write_text(f"# of the tests\n{FILE_KEY}\n\n")
    options = ("--api-key-file", keys, "--allowed-host", "embed.example", "--cors-origin", ORIGIN)
    with Running(
        (byte_artifact.folder, *FAST, *options, "--log-format", "json"), {KEY_VARIABLE: VARIABLE_KEY}
    ) as found:
        yield found.ready()


@contextmanager
def in_a_thread(settings: Settings, state: State | None = None) -> Iterator[int]:
    """The port of an application that a thread of this process serves."""
    sock, settings = bind(settings)
    server = Server(configure(make_app(state or State(), settings, Metrics()), settings))
    thread = Thread(target=server.run, args=([sock],))
    thread.start()
    try:
        yield settings.port
    finally:
        server.should_exit = True
        thread.join(PATIENCE)


@pytest.fixture
def unlogged() -> Iterator[None]:
    """Logging as it was, after a test that runs the command line in this process."""
    loggers = [logging.getLogger(name) for name in ("quoit", "uvicorn", "asyncio")]
    before = [(each, each.handlers, each.propagate, each.level) for each in loggers]
    yield
    for logger, handlers, propagate, level in before:
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)


# ------------------------------------------------------------------------------------------------ who is let in


@pytest.mark.parametrize(
    "headers",
    [BEARER, {"authorization": f"bearer  {FILE_KEY} "}, {"api-key": FILE_KEY}, {"api-key": VARIABLE_KEY}],
)
def test_a_key_of_the_file_or_the_variable_lets_in(guarded: Running, headers: dict[str, str]) -> None:
    status, _, answer = guarded.ask("POST", TEXTS, {"input": "a"}, headers)
    assert (status, len(answer["data"])) == (200, 1)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer no"},
        {"authorization": f"Basic {FILE_KEY}"},
        {"authorization": ""},
        {"api-key": ""},
    ],
)
@pytest.mark.parametrize("path", [TEXTS, "/embed", "/v2/rerank", "/api/embed", "/nowhere"])
def test_another_key_does_not(guarded: Running, headers: dict[str, str], path: str) -> None:
    status, found, answer = guarded.ask("POST", path, {"input": "a"}, headers)
    assert (status, found["www-authenticate"]) == (401, "Bearer")
    assert "API key" in json.dumps(answer)


def test_only_probes_need_no_key(guarded: Running) -> None:
    for path in ("/health", "/live", "/ready", "/ping"):
        assert guarded.ask("GET", path)[0] == 200
    for path in ("/metrics", "/openapi.json", "/info", "/v1/models", "/api/tags"):
        assert guarded.ask("GET", path)[0] == 401
        assert guarded.ask("GET", path, headers=BEARER)[0] == 200


def test_a_name_of_another_site_is_refused(guarded: Running) -> None:
    """A page may make its own name lead to this machine; then it would be of this server's origin."""
    for host in ("evil.example", "evil.example:80", "localhost.evil.example", "192.168.1.7", ""):
        status, _, answer = guarded.ask("GET", "/v1/models", headers={**BEARER, "host": host})
        assert (status, answer["error"]["code"]) == (403, "host")
    for host in ("localhost", "127.0.0.1:99", "[::1]:8080", "embed.example", "Embed.Example:443"):
        assert guarded.ask("GET", "/v1/models", headers={**BEARER, "host": host})[0] == 200


def test_pages_of_a_named_origin_alone_may_call(guarded: Running) -> None:
    wanted = {"access-control-request-method": "POST", "access-control-request-headers": "authorization,content-type"}
    status, found, _ = guarded.ask("OPTIONS", TEXTS, headers={"origin": ORIGIN, **wanted})
    assert (status, found["access-control-allow-origin"]) == (200, ORIGIN)
    assert {"authorization", "content-type"} <= set(re.split(", ?", found["access-control-allow-headers"].lower()))
    assert "access-control-allow-credentials" not in found
    status, found, _ = guarded.ask("OPTIONS", TEXTS, headers={"origin": "https://evil.example", **wanted})
    assert status == 400
    assert "access-control-allow-origin" not in found
    _, found, _ = guarded.ask("POST", TEXTS, {"input": "a"}, {**BEARER, "origin": ORIGIN})
    assert found["access-control-allow-origin"] == ORIGIN
    _, found, _ = guarded.ask("POST", TEXTS, {"input": "a"}, {**BEARER, "origin": "https://evil.example"})
    assert "access-control-allow-origin" not in found


def test_without_an_origin_there_are_no_cors_headers() -> None:
    with in_a_thread(Settings(port=0)) as port:
        for method, path in (("OPTIONS", TEXTS), ("GET", "/live"), ("POST", TEXTS)):
            _, found, _ = ask_port(port, method, path, headers={"origin": ORIGIN})
            assert not [name for name in found if name.startswith("access-control")]


# ---------------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "multipart/form-data; boundary=json"},
        {"content-type": ""},
        {"content-type": "application/json", "content-encoding": "gzip"},
    ],
)
def test_what_a_form_of_another_site_can_send_is_refused(guarded: Running, headers: dict[str, str]) -> None:
    status, _, answer = guarded.ask("POST", TEXTS, b'{"input": "a"}', {**BEARER, **headers})
    assert (status, answer["error"]["type"]) == (415, "invalid_request_error")


def test_json_may_say_its_charset(guarded: Running) -> None:
    headers = {**BEARER, "content-type": "application/json; charset=utf-8"}
    assert guarded.ask("POST", TEXTS, {"input": "a"}, headers)[0] == 200


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_is_too_large_is_refused(guarded: Running, chunked: bool) -> None:
    """The answer arrives although the client writes on."""
    part = b'{"input": "' + b"a" * (1 << 20)
    connection = HTTPConnection("127.0.0.1", guarded.port, timeout=PATIENCE)
    with closing(connection):
        body = (part for _ in range(17)) if chunked else part * 17
        connection.request("POST", TEXTS, body, {**BEARER, "content-type": "application/json"}, encode_chunked=chunked)
        response = connection.getresponse()
        answer = json.loads(response.read())
    assert (response.status, response.getheader("connection")) == (413, "close")
    assert answer["error"]["code"] == "body_too_large"
    assert "16,777,216 bytes" in answer["error"]["message"]


@pytest.mark.parametrize(
    ("path", "look"),
    [
        (TEXTS, lambda answer: answer["error"]["message"]),
        ("/embed", lambda answer: answer["error"] if answer["error_type"] else ""),
        ("/v2/embed", lambda answer: answer["message"]),
        ("/api/embed", lambda answer: answer["error"]),
    ],
)
def test_another_method_is_refused_in_the_dialect_of_the_path(
    guarded: Running, path: str, look: Callable[[Any], str]
) -> None:
    status, found, answer = guarded.ask("DELETE", path, headers=BEARER)
    assert (status, found["content-type"]) == (405, "application/json")
    assert "DELETE is not possible here" in look(answer)


def test_another_path_is_refused(guarded: Running) -> None:
    for method, path in (("GET", "/nowhere"), ("POST", "/v1/chat/completions"), ("GET", "/%00%ff/../etc/passwd")):
        status, _, answer = guarded.ask(method, path, {} if method == "POST" else None, BEARER)
        assert (status, answer["error"]["type"]) == (404, "not_found_error")
    assert guarded.ask("GET", "/api/nowhere", headers=BEARER)[2].keys() == {"error"}


HOSTILE: dict[str, bytes] = {
    "brackets in a known field": b'{"input": ' + b"[" * 100_000,
    "brackets that close": b'{"input": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "brackets in an unknown field": b'{"input": "a", "other": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "braces": b'{"input": "a", "other": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}",
    "bytes that are no UTF-8": b'{"input": "\xff\xfe"}',
    "a lone surrogate": b'{"input": "\\ud800"}',
    "NaN": b'{"input": "a", "dimensions": NaN}',
    "a number of 400 digits": b'{"input": "a", "dimensions": ' + b"9" * 400 + b"}",
    "a number of 5,000 digits": b'{"input": "a", "dimensions": ' + b"9" * 5000 + b"}",
    "2,049 texts": json.dumps({"input": ["a"] * 2049}).encode(),
    "a byte order mark": b'\xef\xbb\xbf{"input": "a"}',
    "trailing garbage": b'{"input": "a"} x',
    "nothing": b"",
    "null": b"null",
    "half": b'{"input": "a',
    "no texts": b'{"input": []}',
    "a priority that is too large": b'{"input": "a", "priority": ' + b"9" * 400 + b"}",
    "a text and a number": b'{"input": ["a", 1]}',
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_body_is_refused_and_the_next_one_answered(guarded: Running, name: str) -> None:
    connection = HTTPConnection("127.0.0.1", guarded.port, timeout=PATIENCE)
    headers = {**BEARER, "content-type": "application/json"}
    with closing(connection):
        for body, expected in ((HOSTILE[name], 400), (b'{"input": "a"}', 200)):
            connection.request("POST", TEXTS, body, headers)
            response = connection.getresponse()
            answer = json.loads(response.read())
            assert response.status == expected, answer
            assert (expected == 200) == ("data" in answer)
            if expected == 400:
                assert len(json.dumps(answer)) < 1500
                assert answer["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("top_n", [b"9" * 400, b"-1", b'"many"', b"NaN", b"1e400"])
def test_a_hostile_number_of_results_is_refused(guarded: Running, top_n: bytes) -> None:
    body = b'{"query": "a", "documents": ["b"], "top_n": ' + top_n + b"}"
    status, _, answer = guarded.ask("POST", "/v2/rerank", body, BEARER)
    assert (status, answer.keys()) == (400, {"message", "id"})


def test_a_huge_text_is_cut_or_refused_as_asked(guarded: Running) -> None:
    text = "text " * 2_000_000
    status, _, answer = guarded.ask("POST", TEXTS, {"input": text}, BEARER)
    assert (status, answer["usage"]["total_tokens"]) == (200, 2048)
    assert guarded.ask("POST", TEXTS, {"input": text, "truncate": False}, BEARER)[0] == 400


def test_a_header_that_is_too_large_is_refused(guarded: Running) -> None:
    line = f"GET /health HTTP/1.1\r\nhost: localhost\r\nx-filler: {'a' * (2 << 20)}\r\n"
    assert guarded.ask("GET", "/health", headers={"x-filler": "a" * (70 << 10)})[0] == 431
    assert b" 200 " not in send_raw(guarded.port, line.encode() + b"connection: close\r\n\r\n")
    assert send_raw(guarded.port, b"\x16\x03\x01\x02\x00 no http").startswith(b"HTTP/1.1 400 ")
    assert guarded.ask("GET", "/health")[0] == 200


def test_a_slow_body_is_given_up() -> None:
    head = b"POST /v1/embeddings HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    head += b"content-length: 99\r\n\r\n{"
    service = SimpleNamespace(check_load=lambda call: None)  # no body is complete, so nothing else is asked of it
    state = State(service=cast("Any", service))
    with in_a_thread(Settings(port=0, body_seconds=0.2), state) as port:
        start = time.monotonic()
        answer = send_raw(port, head).decode()
        assert answer.startswith("HTTP/1.1 408 ")
        assert "did not arrive within 0.2 s" in answer
        assert "connection: close" in answer
        assert time.monotonic() - start < 10


def test_a_slow_header_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "HEADER_SECONDS", 0.2)
    with in_a_thread(Settings(port=0)) as port:
        for begin in (b"", b"GET /li", b"GET /live HTTP/1.1\r\nhost: loc"):
            start = time.monotonic()
            assert send_raw(port, begin) == b""
            assert time.monotonic() - start < 10
        connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        with closing(connection):
            for _ in range(2):  # a connection that waits between requests is no slow header
                connection.request("GET", "/live")
                assert connection.getresponse().read() == b""
                time.sleep(0.4)
            assert connection.sock is not None
            connection.sock.sendall(b"GET /live HTTP/1.1\r\n")
            assert connection.sock.recv(100) == b""


def test_there_is_a_limit_of_connections() -> None:
    with in_a_thread(Settings(port=0, max_connections=1)) as port:
        held = [socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) for _ in range(SPARE_CONNECTIONS + 1)]
        eventually(lambda: send_raw(port, b"GET /live HTTP/1.1\r\nhost: localhost\r\n\r\n") == b"")
        for sock in held:
            sock.close()
        live = b"GET /live HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
        eventually(lambda: send_raw(port, live).startswith(b"HTTP/1.1 200 "))


# ------------------------------------------------------------------------------------------------- what it tells

NAMES = """
quoit_requests_total quoit_request_seconds quoit_queue_seconds quoit_tokenize_seconds quoit_compute_seconds
quoit_queue_tokens quoit_queue_rows quoit_tokens_total quoit_texts_total quoit_batch_tokens quoit_rows_dropped_total
quoit_rows_shared_total quoit_rejected_total quoit_truncated_texts_total quoit_texts_prompted_twice_total
quoit_cached_prompts quoit_cached_prompt_tokens quoit_ready quoit_build_info
"""


def test_metrics_have_their_names_and_no_word_of_callers(guarded: Running) -> None:
    body = {"input": ["Instruct: a word", "b" * 5000], "model": "name-of-a-caller", "instruction": "find"}
    assert guarded.ask("POST", TEXTS, body, {**BEARER, "x-request-id": "name-of-a-request"})[0] == 200
    text = guarded.ask("GET", "/metrics", headers=BEARER)[2]
    found = set(re.findall(r"^# TYPE (\w+) \w+$", text, re.MULTILINE))
    assert set(NAMES.split()) <= found | {f"{name}_total" for name in found}
    assert metric(text, "quoit_requests_total", route=TEXTS, status="200") >= 1
    assert metric(text, "quoit_tokens_total", kind="given") >= metric(text, "quoit_tokens_total", kind="computed") > 0
    assert metric(text, "quoit_truncated_texts_total") >= 1
    assert metric(text, "quoit_texts_prompted_twice_total") >= 1
    assert metric(text, "quoit_ready") == 1
    assert metric(text, "quoit_build_info", precision="fp32", provider="cpu") == 1
    assert not re.search("name-of|Instruct|nowhere|key-of", text)


def test_a_log_line_has_the_request_and_neither_text_nor_key(guarded: Running) -> None:
    headers = {**BEARER, "x-request-id": "id-of-a-test", "user-agent": "tester", "traceparent": "00-ab-cd-01"}
    _, found, _ = guarded.ask("POST", TEXTS, {"input": ["a secret", "another secret"]}, headers)
    assert found["x-request-id"] == "id-of-a-test"
    line = json.loads(guarded.until('"id":"id-of-a-test"'))
    assert line["level"] == "info"
    assert (line["route"], line["status"], line["texts"]) == (TEXTS, 200, 2)
    assert (line["agent"], line["traceparent"], line["owner"]) == ("tester", "00-ab-cd-01", "key 1")
    assert line["tokens"] > 2
    assert all(line[name] >= 0 for name in ("ms", "queue_ms", "tokenize_ms", "compute_ms"))
    assert all(json.loads(each) for each in guarded.lines)
    assert not re.search("secret|key-of", "\n".join(guarded.lines))


@pytest.mark.parametrize("given", ["", "a b", "ü", "a" * 129])
def test_a_request_without_a_plain_id_gets_one(guarded: Running, given: str) -> None:
    found = guarded.ask("GET", "/health", headers={"x-request-id": given.encode().decode("latin-1")})[1]
    assert re.fullmatch("[0-9a-f]{32}", found["x-request-id"])
    assert guarded.ask("GET", "/nowhere", headers={"x-request-id": "mine"})[1]["x-request-id"] == "mine"


def test_a_client_that_goes_away_in_its_body_is_no_error_of_the_server(guarded: Running) -> None:
    head = f"POST {TEXTS} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {FILE_KEY}\r\nx-request-id: left\r\n"
    head += "content-type: application/json\r\ncontent-length: 99\r\n\r\n{"
    send_raw(guarded.port, head.encode(), 0.2)
    assert json.loads(guarded.until('"id":"left"'))["status"] == 499


def test_a_client_that_goes_away_frees_its_texts(guarded: Running) -> None:
    def count(name: str, **labels: str) -> float:
        return metric(guarded.ask("GET", "/metrics", headers=BEARER)[2], name, **labels)

    def left() -> bool:
        texts = [f"{number} {time.monotonic_ns()} " + "text " * 300 for number in range(190)]
        body = json.dumps({"input": texts}).encode()
        head = f"POST {TEXTS} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {FILE_KEY}\r\n"
        head += f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        assert send_raw(guarded.port, head.encode() + body, 0.3) == b""
        return count("quoit_rows_dropped_total", reason="gone") > before

    before = count("quoit_rows_dropped_total", reason="gone")
    eventually(left)
    eventually(lambda: count("quoit_queue_rows") == 0)
    assert guarded.ask("POST", TEXTS, {"input": "a"}, BEARER)[0] == 200


# ----------------------------------------------------------------------------------------------- how it begins and ends

SLOW = """
import sys, time
from pathlib import Path
import quoit.server.run as run
from quoit.cli.main import main
load_models = run.load_models
def slowly(*arguments):
    while not Path({file!r}).exists():
        time.sleep(0.01)
    return load_models(*arguments)
run.load_models = slowly
sys.exit(main())
"""
"""The command line, with a model that is there only when a file is."""


def health(port: int) -> int:
    """The exit code of `quoit health`."""
    return main(["health", f"http://127.0.0.1:{port}"])


def test_it_answers_before_the_model_is_there(
    byte_artifact: Artifact, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = (sys.executable, "-c", SLOW.format(file=str(tmp_path / "go")))
    with Running((byte_artifact.folder, *FAST), command=command) as server:
        server.listening()
        assert server.ask("GET", "/live")[0] == 200
        status, found, answer = server.ask("GET", "/health")
        assert (status, answer["error"], found["retry-after"]) == (503, "loading", "2")
        status, found, answer = server.ask("POST", "/embed", {"inputs": "a"})
        assert (status, answer["error_type"], found["retry-after-ms"]) == (503, "Unhealthy", "2000")
        assert health(server.port) == 1
        assert metric(server.ask("GET", "/metrics")[2], "quoit_ready") == 0
        (tmp_path / "go").touch()
        server.ready()
        assert health(server.port) == 0
        assert server.ask("POST", "/embed", {"inputs": "a"})[0] == 200
        assert server.end(signal.SIGINT) == 0
        assert server.lines[-1].startswith("ended after ")
        assert health(server.port) == 1
    assert capsys.readouterr().out.splitlines()[1:] == ["ready", "not there: [Errno 111] Connection refused"]


@pytest.mark.skipif(sys.platform != "linux", reason="Linux has priorities of threads")
def test_threads_that_compute_come_after_the_loop(byte_artifact: Artifact) -> None:
    with Running((byte_artifact.folder, *FAST)) as server:
        server.ready()
        server.ask("POST", "/embed", {"inputs": "a"})
        pid = server.process.pid
        threads = {int(each.name) for each in Path(f"/proc/{pid}/task").iterdir()}
        nice = {thread: os.getpriority(os.PRIO_PROCESS, thread) for thread in threads}
        own = os.getpriority(os.PRIO_PROCESS, 0)
        assert nice[pid] == own
        assert sum(value == min(own + 10, 19) for value in nice.values()) >= 3  # both lanes, and onnxruntime's
        assert server.end(signal.SIGINT) == 0


def test_the_watchdog_is_told_that_the_loop_runs(byte_artifact: Artifact, tmp_path: Path) -> None:
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as told:
        told.bind(str(tmp_path / "notify"))
        told.settimeout(PATIENCE)
        environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "100000"}
        with Running((byte_artifact.folder, *FAST), environment) as server:
            found: list[bytes] = []
            while b"READY=1" not in found or found[-3:] != [b"WATCHDOG=1"] * 3:
                found.append(told.recv(100))
            assert server.end(signal.SIGINT) == 0


def test_another_process_is_watched_or_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for usec, pid, seconds in (("100000", None, 0.1), ("100000", "1", None), ("0", None, None), ("", None, None)):
        monkeypatch.setenv("WATCHDOG_USEC", usec)
        monkeypatch.delenv("WATCHDOG_PID", raising=False)
        if pid is not None:
            monkeypatch.setenv("WATCHDOG_PID", pid)
        assert watchdog_seconds() == seconds


def test_a_signal_loses_no_request(byte_artifact: Artifact, tmp_path: Path) -> None:
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as told, ThreadPoolExecutor(6) as pool:
        told.bind(str(tmp_path / "notify"))
        told.settimeout(PATIENCE)
        arguments = (byte_artifact.folder, *FAST, "--max-wait", 120)
        with Running(arguments, {"NOTIFY_SOCKET": str(tmp_path / "notify")}) as server:
            server.ready()
            assert told.recv(100) == b"READY=1"

            def ask(number: int) -> tuple[int, int, str]:
                texts = [f"{number} {item} " + "text " * 120 for item in range(20)]
                status, found, answer = server.ask("POST", TEXTS, {"input": texts})
                return status, len(answer.get("data", [])), found.get("connection", "")

            asked = [pool.submit(ask, number) for number in range(6)]
            eventually(
                lambda: (
                    metric(server.ask("GET", "/metrics")[2], "quoit_queue_rows") or any(each.done() for each in asked)
                )
            )
            server.send(signal.SIGTERM)
            assert told.recv(100) == b"STOPPING=1"
            status, found, answer = server.ask("GET", "/health")
            assert (status, answer["error"], found["connection"]) == (503, "draining", "close")
            assert server.ask("POST", TEXTS, {"input": "late"})[0] == 200, "balancers have not noticed yet"
            assert {each.result(PATIENCE)[:2] for each in asked} == {(200, 20)}
            assert server.wait() == 0
    summary = re.fullmatch(
        r"ended after .+ s: 7 requests, 121 texts, ([\d,]+) tokens, ([\d,]+) of them computed \([\d,]+ tokens/s .*\)",
        server.lines[-1],
    )
    assert summary is not None, server.lines[-1]
    given, computed = (int(number.replace(",", "")) for number in summary.groups())
    assert given >= computed > 120


def test_a_second_signal_ends_at_once_and_a_socket_may_be_passed(byte_artifact: Artifact) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as sock:
        start = (
            f"import os, sys; os.dup2({sock.fileno()}, 3); os.environ['LISTEN_PID'] = str(os.getpid()); "
            "os.execv(sys.executable, [sys.executable, '-m', 'quoit', *sys.argv[1:]])"
        )
        arguments = (byte_artifact.folder, *FAST, "--drain-delay", 30)
        with Running(arguments, {"LISTEN_FDS": "1"}, (sys.executable, "-c", start), (sock.fileno(),)) as server:
            server.ready()
            assert server.port == sock.getsockname()[1]
            assert server.ask("POST", TEXTS, {"input": "a"})[0] == 200
            server.send(signal.SIGTERM)
            server.until("not ready any more")
            begin = time.monotonic()
            assert server.end(signal.SIGTERM) == 128 + signal.SIGTERM
            assert time.monotonic() - begin < 10


def test_a_unix_socket_is_for_its_group_and_goes_with_the_server(byte_artifact: Artifact, tmp_path: Path) -> None:
    path = tmp_path / "quoit.sock"
    with closing(socket.socket(socket.AF_UNIX)) as old:
        old.bind(str(path))  # of a server that died
    with Running((byte_artifact.folder, *FAST, "--uds", path)) as server:
        server.until("ready after")
        assert path.stat().st_mode & 0o777 == 0o660
        status, _, answer = ask_unix(path, "/v1/models")
        assert (status, answer["object"]) == (200, "list")
        with pytest.raises(InputError, match="another server listens"):
            bind(Settings(uds=str(path)))
        assert server.end() == 0
    assert not path.exists()
    path.write_text("no socket")
    with pytest.raises(InputError, match="cannot listen on"):
        bind(Settings(uds=str(path)))
    assert path.read_text() == "no socket"


def passed(monkeypatch: pytest.MonkeyPatch, sock: socket.socket, count: str = "1") -> None:
    """Makes a socket look like one that systemd passed."""
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    monkeypatch.setenv("LISTEN_FDS", count)
    monkeypatch.setattr(listening, "FIRST_SOCKET", os.dup(sock.fileno()))


def test_a_passed_socket_that_lets_others_in_needs_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(socket.create_server(("0.0.0.0", 0))) as sock:
        passed(monkeypatch, sock)
        with pytest.raises(InputError, match="lets other machines in, and there is no API key"):
            bind(Settings())
        passed(monkeypatch, sock)
        found, settings = bind(Settings(keys={"key 1": "a"}))
        found.close()
        assert (settings.host, settings.port, settings.is_local) == ("0.0.0.0", sock.getsockname()[1], False)
        passed(monkeypatch, sock, "2")
        with pytest.raises(InputError, match="passes 2 sockets"):
            bind(Settings())


def damaged(artifact: Artifact, folder: Path) -> Path:
    """A copy of an artifact whose weights end too early."""
    import shutil

    copy = shutil.copytree(artifact.folder, folder / "damaged")
    for file in copy.rglob("*.onnx*"):
        os.truncate(file, 1000)
    return copy


Make = Callable[[Artifact, Path, int], list[object]]
CASES: dict[str, tuple[int, str, Make]] = {
    "a port in use": (2, "Address already in use", lambda a, _, port: [a.folder, "--port", port]),
    "no key": (2, "there is no API key", lambda a, *_: [a.folder, "--port", 0, "--host", "0.0.0.0"]),
    "no file of keys": (
        2,
        "cannot read the API keys",
        lambda a, f, _: [a.folder, "--port", 0, "--api-key-file", f / "n"],
    ),
    "a folder of keys": (2, "cannot read the API keys", lambda a, f, _: [a.folder, "--port", 0, "--api-key-file", f]),
    "any site and keys": (2, "lets every site", lambda a, *_: [a.folder, "--port", 0, "--cors-origin", "*"]),
    "a port out of bounds": (2, "--port 65536 is out of", lambda a, *_: [a.folder, "--port", 65536]),
    "no number": (2, "--max-wait nan is out of", lambda a, *_: [a.folder, "--port", 0, "--max-wait", "nan"]),
    "a share that is none": (2, "--bulk-share 2.0", lambda a, *_: [a.folder, "--port", 0, "--bulk-share", 2]),
    "no folder of a socket": (2, "choose another --uds", lambda a, f, _: [a.folder, "--uds", f / "no" / "socket"]),
    "no artifact": (3, "is not a folder", lambda a, f, _: [f / "nothing", "--port", 0]),
    "no reranker": (3, "is not a folder", lambda a, f, _: [a.folder, "--reranker", f / "nothing", "--port", 0]),
    "no variant": (3, "no int4 variant", lambda a, *_: [a.folder, "--port", 0, "--precision", "int4"]),
    "a damaged artifact": (3, "damaged", lambda a, f, _: [damaged(a, f), "--port", 0]),
}


@pytest.mark.parametrize("name", CASES)
def test_exit_codes_say_what_was_wrong(
    byte_artifact: Artifact,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    unlogged: None,
    name: str,
) -> None:
    """2 for options, 3 for a model that cannot be loaded, and the last line has the reason."""
    code, words, make = CASES[name]
    if name == "any site and keys":
        monkeypatch.setenv(KEY_VARIABLE, VARIABLE_KEY)
    else:
        monkeypatch.delenv(KEY_VARIABLE, raising=False)
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        arguments = make(byte_artifact, tmp_path, taken.getsockname()[1])
        assert main(["serve", *map(str, arguments)]) == code
    last = capfd.readouterr().err.splitlines()[-1]
    assert last.startswith("quoit: ")
    assert words in last


def test_the_variable_of_the_key_has_one_name() -> None:
    assert settings_module.KEY_VARIABLE == KEY_VARIABLE
