"""Buckets on loopback: moto as a server process, and in front of it a proxy that misbehaves when told to."""

import http.client
import http.server
import os
import secrets
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

SECRET = "secret-that-must-not-be-written"
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "AKIATHATMUSTNOTBEWRITTEN",
    "AWS_SECRET_ACCESS_KEY": SECRET,
    "AWS_REGION": "us-east-1",
}
# S3 promises that of many conditional writes one wins; moto looks and writes in two steps, in a thread each.
MOTO = """
import functools, threading, moto.s3.responses, moto.server
kind, lock = moto.s3.responses.S3Response, threading.Lock()
def in_one_step(method):
    @functools.wraps(method)
    def call(*args, **options):
        with lock:
            return method(*args, **options)
    return call
kind._key_response_put, kind._key_response_post = map(in_one_step, (kind._key_response_put, kind._key_response_post))
moto.server.main()
"""
_BINARY = {"Content-Type": "application/octet-stream"}  # moto would parse a form


class Server:
    """moto and the proxy before it. `address` is moto's own, `proxy` the one to misbehave."""

    def __init__(self, port: int) -> None:
        self.address = f"http://127.0.0.1:{port}"
        self.proxy = Proxy(port)

    def make_bucket(self) -> str:
        """A new bucket; its name."""
        name = f"bucket-{secrets.token_hex(4)}"
        self.put(name)
        return name

    def put(self, path: str, data: bytes = b"") -> None:
        request = urllib.request.Request(f"{self.address}/{path}", data=data, method="PUT", headers=_BINARY)
        urllib.request.urlopen(request, timeout=10).close()

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(f"{self.address}/{path}", timeout=10) as answer:
            return answer.read()


class Proxy(http.server.ThreadingHTTPServer):
    """Passes requests on. `fault` spoils every `every`-th of those whose method and path hold the words of `only`.

    fault: "" none; "drop" carries the request out and loses the answer; "409", "500", "503", "403" answer so;
      "delay" waits; "corrupt" flips a bit of the body, sent or received; "ignore-condition" knows no If-None-Match;
      "small-pages" lists two keys a page.
    """

    daemon_threads = True

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream, self.lock = port, threading.Lock()
        self.address = f"http://127.0.0.1:{self.server_port}"
        self.requests: list[str] = []
        self.spoil("")
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def spoil(self, fault: str, *, every: int = 1, only: str = "", times: int = 10**9) -> None:
        self.fault, self.every, self.only, self.times, self.seen = fault, every, only.split(), times, 0

    def fault_of(self, request: str) -> str:
        with self.lock:
            self.requests.append(request)
            if not self.fault or not all(word in request for word in self.only):
                return ""
            self.seen += 1
            if self.seen % self.every or self.times <= 0:
                return ""
            self.times -= 1
            return self.fault

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is nothing to print."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        fault = self.server.fault_of(f"{self.command} {self.path}")
        if fault.isdigit():
            self._reply(int(fault), {}, f"<Error><Code>{SECRET}</Code></Error>".encode())
            return
        if fault == "delay":
            time.sleep(0.1)
        if fault == "corrupt":
            body = _flipped(body, 0)
        headers = dict(self.headers.items())
        if fault == "small-pages":
            self.path += "&max-keys=2"
        if fault == "ignore-condition":
            headers.pop("if-none-match", None)
        with closing(http.client.HTTPConnection("127.0.0.1", self.server.upstream, timeout=30)) as upstream:
            upstream.request(self.command, self.path, body, headers)
            found = upstream.getresponse()
            content = found.read()
        if fault == "drop":
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        if fault == "corrupt" and self.command == "GET" and "list-type" not in self.path:
            content = _flipped(content, -1)
        self._reply(found.status, dict(found.getheaders()), content)

    def _reply(self, status: int, headers: dict[str, str], content: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in ("connection", "transfer-encoding", "content-length", "date", "server"):
                self.send_header(name, value)
        is_head = self.command == "HEAD"
        self.send_header("content-length", headers.get("Content-Length", "0") if is_head else str(len(content)))
        self.end_headers()
        if not is_head:
            self.wfile.write(content)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = answer

    def log_message(self, *arguments: object) -> None:
        """Quiet."""


def _flipped(data: bytes, position: int) -> bytes:
    """One bit of one byte is another; sent and received bodies differ at other ends, so that twice is not right."""
    changed = bytearray(data)
    if changed:
        changed[position] ^= 1
    return bytes(changed)


@contextmanager
def serve() -> Iterator[Server]:
    """moto and proxy, until the block is left."""
    pytest.importorskip("obstore", reason="needs the extra cloud")
    pytest.importorskip("moto", reason="needs the extra test")
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    moto = subprocess.Popen(
        [sys.executable, "-c", MOTO, "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"MOTO_ACCOUNT_ID": "1" * 12},
    )
    try:
        _wait_for(port, moto)
        server = Server(port)
        yield server
        server.proxy.shutdown()
        server.proxy.server_close()
    finally:
        moto.kill()
        moto.wait(10)


def use_buckets(monkeypatch: pytest.MonkeyPatch, server: Server, *, patience_s: float) -> None:
    """Let a test find its buckets through the proxy, and not be patient."""
    for name, value in {**ENVIRONMENT, "AWS_ENDPOINT_URL": server.proxy.address}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("softlabels.storage.bucket.PATIENCE_S", patience_s)
    monkeypatch.setattr("softlabels.storage.bucket.REPAIR_S", 0.05)


def _wait_for(port: int, process: subprocess.Popen) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError("moto did not start within 60 s")
