"""A Materials Project of our own, on 127.0.0.1: the endpoints that the real client uses.

It answers over HTTP as the service does (heartbeat, materials/summary, materials/core), and
misbehaves on demand: by status, by a cut connection, by an answer that does not come.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

KEY = "0123456789abcdefghijklmnopqrstuv"
DEFAULT_PAGE = 100


@dataclass
class Misbehaviour:
    """What one request gets instead of an answer: a status, a cut, or nothing for a while."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: str = '{"detail": "no"}'
    cut: bool = False
    silent: threading.Event | None = None


class MaterialsServer(ThreadingHTTPServer):
    """Serves `materials`: documents by id, as the summary endpoint has them.

    Attributes:
        materials: documents by their current id.
        requests: (path, parameters, key) of every request, in order.
        key: the one that it accepts.
        trouble: what the next requests to a path get, first in, first out.
    """

    key = KEY
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.materials: dict[str, dict[str, Any]] = {}
        self.version = "2026.10.01"
        self.requests: list[tuple[str, dict[str, str], str]] = []
        self.trouble: dict[str, list[Misbehaviour]] = {}

    def misbehave(self, path: str, *ways: dict[str, Any]) -> None:
        """Lets the next requests to a path go wrong, each in its way; `{}` goes well."""
        self.trouble[path] = [Misbehaviour(**how) for how in ways]

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/"

    def asked(self, path: str) -> list[dict[str, str]]:
        return [parameters for known, parameters, _ in self.requests if known == path]

    def answer(self, path: str, asked: dict[str, str]) -> dict[str, Any]:
        if path == "heartbeat":
            return {
                "status": "OK",
                "version": "0.87.3",
                "db_version": self.version,
                "access_controlled_batch_ids": [],
            }
        withdrawn = asked.get("deprecated", "False") == "True"
        fitting = [
            doc
            for _, doc in sorted(self.materials.items())
            if doc.get("deprecated", False) == withdrawn and _fits(doc, asked)
        ]
        size = int(asked.get("_per_page") or asked.get("_limit") or DEFAULT_PAGE)
        skip = (int(asked["_page"]) - 1) * size if "_page" in asked else int(asked.get("_skip", 0))
        names = asked["_fields"].split(",")
        page = [{name: doc.get(name) for name in names} for doc in fitting[skip : skip + size]]
        return {"data": page, "meta": {"total_doc": len(fitting)}}


def _fits(document: dict[str, Any], asked: dict[str, str]) -> bool:
    if "material_ids" in asked and document["material_id"] not in asked["material_ids"].split(","):
        return False
    if "task_ids" in asked and not {*document["task_ids"]} & {*asked["task_ids"].split(",")}:
        return False
    if "elements" in asked and not {*asked["elements"].split(",")} <= {*document["elements"]}:
        return False
    return "is_stable" not in asked or str(document["is_stable"]) == asked["is_stable"]


class _Handler(BaseHTTPRequestHandler):
    server: MaterialsServer

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        path = url.path.strip("/")
        asked = {key: values[0] for key, values in parse_qs(url.query).items()}
        key = self.headers.get("x-api-key", "")
        self.server.requests.append((path, asked, key))
        waiting = self.server.trouble.get(path)
        trouble = waiting.pop(0) if waiting else Misbehaviour()
        if trouble.silent is not None:
            trouble.silent.wait(30)
            return
        if trouble.status != 200:
            self._send(trouble.status, trouble.body, trouble.headers)
        elif path != "heartbeat" and key != KEY:
            self._send(401, json.dumps({"detail": f"unauthorized key {key}"}))
        else:
            body = json.dumps(self.server.answer(path, asked))
            self._send(200, body, sent=len(body) // 2 if trouble.cut else None)

    def _send(
        self, status: int, body: str, headers: dict[str, str] | None = None, sent: int | None = None
    ) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[:sent].encode())
        if sent is not None:
            self.close_connection = True

    def log_message(self, *args: object) -> None:
        """Says nothing."""


@pytest.fixture(scope="session")
def documents() -> dict[str, dict[str, Any]]:
    """The 58 crystals of `Experiment`, as the summary endpoint has them: mp-1, mp-2, …"""
    from harness import load_dataset

    found: dict[str, dict[str, Any]] = {}
    for number, crystal in enumerate(load_dataset("Experiment").crystals, start=1):
        found[f"mp-{number}"] = {
            "material_id": f"mp-{number}",
            "structure": crystal.to_pymatgen().as_dict(),
            "task_ids": [f"mp-{number}", f"mp-{1000 + number}"],
            "elements": sorted(set(crystal.species)),
            "is_stable": number % 2 == 1,
            "deprecated": False,
        }
    return found


@pytest.fixture
def materials(
    documents: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch, tmp_path
) -> Iterator[MaterialsServer]:
    """A running server with those materials; its address, a key to it and a cache are set."""
    pytest.importorskip("mp_api", reason="the extra mp is not installed")
    server = MaterialsServer()
    server.materials = deepcopy(documents)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("MP_API_ENDPOINT", server.endpoint)
    monkeypatch.setenv("MP_API_KEY", KEY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HARNESS_OFFLINE", raising=False)
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def pauses() -> list[float]:
    """Seconds that were to be slept, instead of sleeping."""
    return []


@pytest.fixture
def service(materials: MaterialsServer, pauses: list[float]) -> Callable[..., Any]:
    """Makes a `Service` at our server, which sleeps into `pauses`."""
    from harness.data.materials.server import Service

    return lambda **options: Service(endpoint=materials.endpoint, sleep=pauses.append, **options)
