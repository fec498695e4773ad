"""A hub on this machine: the requests that huggingface_hub makes to look up, fetch and upload models.

It keeps commits of repositories in memory, and fails where a test says so.
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789" * 4
MODEL = "some/model"
TOKEN = "hf_secret"
LFS_BYTES = 100_000
"""Files from this size on are uploaded by themselves, as large files are."""
Files = dict[str, bytes]
Fault = Callable[["Answer"], bool]
"""Answers a request instead of the hub, and returns True; or leaves it to the hub."""


def files_of(folder: Path) -> Files:
    """A folder's files by path."""
    files = (file for file in sorted(folder.rglob("*")) if file.is_file())
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


@dataclass
class Repository:
    """Commits by hash, and branches and tags."""

    commits: dict[str, Files] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    private: bool = False

    def files(self, revision: str) -> tuple[str, Files] | None:
        commit = self.refs.get(revision, revision)
        return (commit, self.commits[commit]) if commit in self.commits else None


class Hub:
    """Repositories by name, what was asked for, and what fails.

    Attributes:
        repositories: the repositories.
        requests: method and path of each request, in order.
        faults: asked in order for each request; the first one that answers it is used up.
        endpoint: address of the hub.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.requests: list[tuple[str, str]] = []
        self.faults: list[Fault] = []
        self.stored: Files = {}
        self.endpoint = ""

    def add(self, files: Files, name: str = MODEL, commit: str = COMMIT, revision: str = "main") -> None:
        """Commit files to a branch."""
        repository = self.repositories.setdefault(name, Repository())
        repository.commits[commit] = files
        repository.refs[revision] = commit

    def fetched(self) -> list[str]:
        """Paths of the files that were fetched so far, in order."""
        return [
            path.partition("/resolve/")[2].partition("/")[2]
            for method, path in self.requests
            if method == "GET" and "/resolve/" in path
        ]

    @contextmanager
    def serving(self) -> Iterator[str]:
        """Answer requests; gives the endpoint."""
        hub = self

        class Handler(Answer):
            owner = hub

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        self.endpoint = f"http://127.0.0.1:{server.server_port}"
        try:
            yield self.endpoint
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


class Answer(BaseHTTPRequestHandler):
    """One request."""

    owner: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.handle_request()

    def do_HEAD(self) -> None:
        self.handle_request()

    def do_POST(self) -> None:
        self.handle_request()

    def do_PUT(self) -> None:
        self.handle_request()

    def handle_request(self) -> None:
        self.place = unquote(urlsplit(self.path).path)
        self.body = self.read_body()
        hub = self.owner
        hub.requests.append((self.command, self.place))
        for fault in hub.faults:
            if fault(self):
                hub.faults.remove(fault)
                return
        for pattern, answer in ROUTES:
            found = re.fullmatch(pattern, f"{self.command} {self.place}")
            if found is not None:
                answer(self, **found.groupdict())
                return
        self.send(404, {"error": f"the hub of the tests does not know {self.command} {self.place}"})

    def read_body(self) -> bytes:
        """The body of the request, in one piece or in chunks."""
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def send(self, status: int, content: Any, **headers: str) -> None:
        """Answer with bytes, or with JSON."""
        raw = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(raw)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(raw)

    def cut(self, content: bytes) -> None:
        """Promise a whole file, send its beginning, and close the connection."""
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2])
        self.wfile.flush()
        self.close_connection = True

    def repository(self, name: str) -> Repository | None:
        """The repository; None after an answer that there is none, or that it is not for this caller."""
        found = self.owner.repositories.get(name)
        if found is None or (found.private and self.headers.get("Authorization") != f"Bearer {TOKEN}"):
            self.send(
                401,
                {"error": "Repository not found"},
                X_Error_Code="RepoNotFound",
                X_Error_Message="Repository not found",
            )
            return None
        return found

    def revision(self, name: str, revision: str) -> tuple[str, Files] | None:
        """Commit and files of a revision; None after an answer that there is none."""
        repository = self.repository(name)
        if repository is None:
            return None
        found = repository.files(revision)
        if found is None:
            self.send(404, {"error": "no revision"}, X_Error_Code="RevisionNotFound", X_Error_Message="no revision")
        return found

    def allowed(self) -> bool:
        """Whether the caller may write; answers if not."""
        if self.headers.get("Authorization") == f"Bearer {TOKEN}":
            return True
        self.send(401, {"error": "Invalid username or password."})
        return False

    # ------------------------------------------------------------------------------------------------------- reading

    def tell(self, name: str, revision: str | None) -> None:
        found = self.revision(name, revision or "main")
        if found is not None:
            commit, files = found
            siblings = [{"rfilename": path, "size": len(content)} for path, content in files.items()]
            self.send(200, {"id": name, "sha": commit, "siblings": siblings})

    def tree(self, name: str, revision: str) -> None:
        found = self.revision(name, revision)
        if found is not None:
            self.send(
                200,
                [
                    {"type": "file", "path": path, "size": len(content), "oid": digest(content)}
                    for path, content in found[1].items()
                ],
            )

    def resolve(self, name: str, revision: str, path: str) -> None:
        found = self.revision(name, revision)
        if found is None:
            return
        commit, files = found
        if path not in files:
            self.send(
                404, {"error": "no file"}, X_Error_Code="EntryNotFound", X_Error_Message="no file", X_Repo_Commit=commit
            )
            return
        content, etag = files[path], f'"{digest(files[path])}"'
        begins = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if begins is None:
            self.send(200, content, ETag=etag, X_Repo_Commit=commit, Accept_Ranges="bytes")
            return
        start, size = int(begins[1]), len(content)
        span = f"bytes {start}-{size - 1}/{size}"
        self.send(206, content[start:], ETag=etag, X_Repo_Commit=commit, Content_Range=span)

    # ------------------------------------------------------------------------------------------------------- writing

    def create(self) -> None:
        if self.allowed():
            asked = json.loads(self.body)
            name = f"{asked['organization']}/{asked['name']}"
            if name in self.owner.repositories:
                self.send(409, {"error": "exists", "url": f"{self.owner.endpoint}/{name}"})
                return
            self.owner.repositories[name] = Repository(private=asked.get("visibility") == "private")
            self.owner.add({".gitattributes": b""}, name)
            self.send(200, {"url": f"{self.owner.endpoint}/{name}", "id": name})

    def preupload(self, name: str, revision: str) -> None:
        if self.allowed() and self.revision(name, revision) is not None:
            modes = [
                {
                    "path": each["path"],
                    "uploadMode": "lfs" if each["size"] >= LFS_BYTES else "regular",
                    "shouldIgnore": False,
                }
                for each in json.loads(self.body)["files"]
            ]
            self.send(200, {"files": modes})

    def batch(self, name: str) -> None:
        if self.allowed() and self.repository(name) is not None:
            objects = [
                each | {"actions": {"upload": {"href": f"{self.owner.endpoint}/lfs/{each['oid']}"}}}
                for each in json.loads(self.body)["objects"]
            ]
            self.send(200, {"transfer": "basic", "objects": objects}, Content_Type="application/vnd.git-lfs+json")

    def store(self, oid: str) -> None:
        self.owner.stored[oid] = self.body
        self.send(200, b"")

    def check(self) -> None:
        self.send(200, {"success": True})

    def commit(self, name: str, revision: str) -> None:
        if not self.allowed() or (found := self.revision(name, revision)) is None:
            return
        files = dict(found[1])
        for line in self.body.splitlines():
            change = json.loads(line)
            value = change["value"]
            if change["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif change["key"] == "lfsFile":
                files[value["path"]] = self.owner.stored[value["oid"]]
            elif change["key"] == "deletedFile":
                del files[value["path"]]
        commit = hashlib.sha1(repr(sorted(files)).encode() + found[0].encode()).hexdigest()
        self.owner.add(files, name, commit, revision)
        self.send(200, {"commitUrl": f"{self.owner.endpoint}/{name}/commit/{commit}", "commitOid": commit})

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002  the base class names it
        """Say nothing on standard error."""


NAME = r"(?P<name>[^/]+/[^/]+)"
ROUTES: list[tuple[str, Callable[..., None]]] = [
    (f"GET /api/models/{NAME}(/revision/(?P<revision>.+))?", Answer.tell),
    (f"GET /api/models/{NAME}/tree/(?P<revision>[^/]+)", Answer.tree),
    (f"(GET|HEAD) /{NAME}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", Answer.resolve),
    ("POST /api/repos/create", Answer.create),
    ("POST /api/validate-yaml", Answer.check),
    (f"POST /api/models/{NAME}/preupload/(?P<revision>.+)", Answer.preupload),
    (f"POST /{NAME}.git/info/lfs/objects/batch", Answer.batch),
    ("PUT /lfs/(?P<oid>[0-9a-f]+)", Answer.store),
    (f"POST /api/models/{NAME}/commit/(?P<revision>.+)", Answer.commit),
]


def digest(content: bytes) -> str:
    """What the hub calls a file's content."""
    return hashlib.sha256(content).hexdigest()


def status(code: int, path: str, **headers: str) -> Fault:
    """Answers the next request whose path has some text with a status."""

    def answer(request: Answer) -> bool:
        if path not in request.place:
            return False
        request.send(code, {"error": "as the test asked for"}, **headers)
        return True

    return answer


def cut(path: str, content: bytes) -> Fault:
    """Breaks the connection in the middle of the next answer to a GET of a path."""

    def answer(request: Answer) -> bool:
        if path not in request.place or request.command != "GET":
            return False
        request.cut(content)
        return True

    return answer


def point_at(endpoint: str, patch: Callable[[str, Any], None], cache: Path) -> None:
    """Make huggingface_hub of this process ask a hub, and keep what it fetches in a folder."""
    patch("huggingface_hub.constants.ENDPOINT", endpoint)
    patch(
        "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
        f"{endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}",
    )
    patch("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
