"""A hub on this machine: the three requests that `snapshot_download` makes, for the files of one folder."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789" * 4


@contextmanager
def serve_repository(folder: Path) -> Iterator[str]:
    """Serves a folder's files as any repository asked for; gives the endpoint."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer()

        def do_HEAD(self) -> None:
            self.answer()

        def answer(self) -> None:
            path = unquote(urlsplit(self.path).path)
            names = sorted(file.name for file in folder.iterdir())
            if "/resolve/" in path:
                content = (folder / path.rpartition("/")[2]).read_bytes()
            elif "/tree/" in path:
                sizes = {name: (folder / name).stat().st_size for name in names}
                listed = [{"type": "file", "path": name, "size": sizes[name], "oid": name} for name in names]
                content = json.dumps(listed).encode()
            else:
                siblings = [{"rfilename": name} for name in names]
                content = json.dumps({"id": "some/model", "sha": COMMIT, "siblings": siblings}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{path.rpartition("/")[2]}"')
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002  the base class names it
            """Says nothing on standard error."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
