"""A file server on 127.0.0.1 that can misbehave."""

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FileServer:
    """Serves bytes; attributes may be changed between requests."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.truncate = False
        self.piece, self.pause = 1 << 20, 0.0
        self.slow_file: str | None = None
        self.statuses: list[int] = []  # of the next answers, before files are served
        self.moved: dict[str, str] = {}  # path -> where it is now
        self.announce_length = True
        self.stall_after: int | None = None  # bytes of a body, then silence
        self._stopped = False
        self._stall = threading.Event()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """Address of the folder that is served."""
        return f"http://127.0.0.1:{self._http.server_port}"

    def stop(self) -> None:
        """Stop listening, so that connections are refused."""
        self._stopped = True
        self._stall.set()
        self._http.shutdown()
        self._http.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        """Bind a handler to this server."""
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                name = self.path.lstrip("/")
                server.requests.append(name)
                if server.statuses:
                    self.send_error(server.statuses.pop(0))
                    return
                if name in server.moved:
                    self.send_response(302)
                    self.send_header("Location", server.moved[name])
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                if name not in server.files:
                    self.send_error(404)
                    return
                body = server.files[name]
                self.send_response(200)
                if server.announce_length:
                    self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                body = body[: len(body) // 2] if server.truncate else body
                server._send(self, body[: server.stall_after])
                if server.stall_after is not None:
                    server._stall.wait(timeout=20)

            def log_message(self, format: str, *args: object) -> None:
                """Keep quiet."""

        return Handler

    def _send(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        """Send a body piece by piece until the other side hangs up."""
        slow = self.slow_file in (None, handler.path.lstrip("/"))
        pause = self.pause if slow else 0.0
        try:
            while body and not self._stopped:
                piece, body = body[: self.piece], body[self.piece :]
                time.sleep(pause)
                handler.wfile.write(piece)
        except OSError:
            pass
