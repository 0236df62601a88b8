"""Attacks on the server over HTTP: other sites' pages, smuggled requests, connections without end."""

import json
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.datastructures import Headers

from solobox.errors import ConfigError
from solobox.predict.onnx_model import OnnxModel
from solobox.serve import tensors
from solobox.serve.hosts import HostPolicy

from error_codes import has_code  # isort: skip
from server_in_thread import Hosted, hosted, read_response  # isort: skip
from server_process import KEY, running  # isort: skip
from colour_model import image, write_model  # isort: skip

POST = b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\n"
ROUTES = (
    ("GET", "/"), ("GET", "/v1/model"), ("GET", "/metrics"), ("GET", "/openapi.json"), ("GET", "/health/live"),
    ("GET", "/health/ready"), ("GET", "/v2"), ("GET", "/v2/models/model"), ("POST", "/v1/predict"),
    ("POST", "/v2/models/model/infer"), ("OPTIONS", "/v1/predict"), ("GET", "/nothing"),
)  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> OnnxModel:
    return OnnxModel.load(write_model(tmp_path_factory.mktemp("model") / "model.onnx"), threads=1)


@pytest.fixture(scope="module")
def server(model: OnnxModel) -> Iterator[Hosted]:
    with hosted(model) as started:
        yield started


def code_of(response: httpx.Response) -> str | None:
    return None if response.is_success else str(response.json()["code"])


# Other sites' pages ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_another_host_is_refused_everywhere(server: Hosted, method: str, path: str) -> None:
    """DNS rebinding: the browser takes the server for another site, whose name is in Host."""
    with server.client() as client:
        for host in (
            "evil.example",
            f"evil.example:{server.port}",
            "localhost.evil.example",
            "[::2]",
            "x@localhost:x",
        ):
            response = client.request(method, path, headers={"Host": host}, content=image())
            assert (response.status_code, code_of(response)) == (403, "host-not-allowed"), host


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_another_origin_is_refused_everywhere(server: Hosted, method: str, path: str) -> None:
    origins = (
        "http://evil.example",
        "null",
        f"http://localhost:{server.port + 1}",
        f"http://127.0.0.1.evil:{server.port}",
    )
    with server.client() as client:
        for origin in origins:
            response = client.request(method, path, headers={"Origin": origin}, content=image())
            assert (response.status_code, code_of(response)) == (403, "cross-site-request"), origin


def test_the_servers_own_names_and_its_page_pass(server: Hosted) -> None:
    with server.client() as client:
        for host in ("localhost", "LOCALHOST:1", "127.0.0.1", "[::1]:80", "localhost."):
            assert client.get("/v1/model", headers={"Host": host}).status_code == 200, host
        for host in ("localhost:8000", "127.0.0.1", "[::1]:8000"):
            headers = {"Host": host, "Origin": f"http://{host}", "Sec-Fetch-Site": "same-origin"}
            assert client.post("/v1/predict", content=image(), headers=headers).status_code == 200, host
        behind_tls = {"Host": "localhost", "Origin": "https://localhost"}
        assert client.post("/v1/predict", content=image(), headers=behind_tls).status_code == 200
    with server.connect() as sock:  # an old probe
        sock.sendall(b"GET /health/live HTTP/1.0\r\n\r\n")
        assert read_response(sock)[0] == 200


def test_hosts_and_origins_that_are_allowed(model: OnnxModel) -> None:
    site = "https://app.example"
    with (
        hosted(model, allow_hosts=("model.example",), allow_origins=(site,), api_key=KEY) as server,
        server.client() as client,
    ):
        key = {"Authorization": f"Bearer {KEY}"}
        assert client.get("/v1/model", headers={**key, "Host": "model.example:8000"}).status_code == 200
        response = client.post(
            "/v1/predict",
            content=image(),
            headers={**key, "Origin": site, "Sec-Fetch-Site": "cross-site"},
        )
        assert response.status_code == 200
        assert response.headers["access-control-allow-origin"] == site
        asks = {
            "Origin": site,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization",
        }
        assert client.options("/v1/predict", headers=asks).status_code == 200
        assert client.post("/v1/predict", content=image(), headers={"Origin": site}).status_code == 401
        assert (
            client.get("/v1/model", headers={**key, "Origin": "https://app.example.evil"}).status_code == 403
        )


def test_a_server_at_all_addresses_knows_addresses_and_no_names() -> None:
    policy = HostPolicy(("0.0.0.0", "0.0.0.0"))  # noqa: S104

    def refused(host: str) -> bool:
        return policy.refusal(with_host(host)) is not None

    assert not any(refused(host) for host in ("10.1.2.3:8000", "[fe80::1]", "localhost", "127.0.0.1"))
    assert all(refused(host) for host in ("evil.example", "10.1.2.3.evil.example", "10.1.2"))
    assert HostPolicy(("10.1.2.3",)).refusal(with_host("localhost")) is not None
    assert HostPolicy(("10.1.2.3",), ("*",)).refusal(with_host("any.example")) is None


def with_host(host: str) -> Headers:
    return Headers({"Host": host})


@pytest.mark.parametrize("host", ["http://x", "x:80", "a b", "", "x/y"])
def test_hosts_that_are_none(host: str) -> None:
    with pytest.raises(ConfigError, check=has_code("address-invalid")):
        HostPolicy(("127.0.0.1",), (host,))


@pytest.mark.parametrize("origin", ["*", "null", "example.org", "https://x/path", "file:///x", ""])
def test_origins_that_are_none(origin: str) -> None:
    with pytest.raises(ConfigError, check=has_code("address-invalid")):
        HostPolicy(("127.0.0.1",), (), (origin,))


# Requests that two readers read differently -----------------------------------------------------------------


@pytest.mark.parametrize(
    "head",
    [
        POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n0\r\n\r\n",
        b"GET /health/live HTTP/9.9\r\nHost: localhost\r\n\r\n",
        b"GET /health/live HTTP/0.9\r\nHost: localhost\r\n\r\n",
        b"PRI * HTTP/2.0\r\nHost: localhost\r\n\r\n",
    ],
)
def test_ambiguous_requests_are_refused_and_the_connection_closed(server: Hosted, head: bytes) -> None:
    with server.connect() as sock:
        sock.sendall(head + b"GET /v1/model HTTP/1.1\r\nHost: localhost\r\n\r\n")
        status, body = read_response(sock)
        assert (status, json.loads(body)["code"]) == (400, "invalid-http")
        assert sock.recv(1000) == b""  # what follows is not answered


def test_a_body_in_tiny_chunks(server: Hosted) -> None:
    """Each chunk costs the event loop as much as 64 kB in one."""
    head = POST + b"Content-Type: image/png\r\nTransfer-Encoding: chunked\r\n\r\n"
    with server.connect() as sock:
        sock.sendall(head + b"1\r\na\r\n" * 1500)
        status, body = read_response(sock)
        assert (status, json.loads(body)["code"]) == (400, "invalid-http")
    content = image(size=(300, 300)).ljust(30_000, b"\0")
    chunks = b"".join(b"64\r\n" + content[at : at + 100] + b"\r\n" for at in range(0, len(content), 100))
    with server.connect() as sock:
        sock.sendall(head + chunks + b"0\r\n\r\n")
        assert read_response(sock)[0] == 200


# The Open Inference Protocol ---------------------------------------------------------------------------------


INFER = "/v2/models/model/infer"


def test_an_output_requested_a_million_times(server: Hosted) -> None:
    """The answer would have hundreds of megabytes, and the server answer nobody else."""
    tensor = {"name": "pixels", "shape": [1, 1, 1, 3], "datatype": "UINT8", "data": [1, 2, 3]}
    for count, status in ((2, 400), (100_000, 400), (1_000_000, 413)):
        body = json.dumps({"inputs": [tensor], "outputs": [{"name": "boxes"}] * count})
        with server.client() as client:
            response = client.post(INFER, content=body)
        assert response.status_code == status
        assert len(response.content) < 1000


@pytest.mark.parametrize("filler", [b"[],", b"{},", b"0,", b'{"name":"boxes"},'])
def test_json_that_would_be_parsed_for_seconds(server: Hosted, filler: bytes) -> None:
    """Python's parser lets no other thread run, the event loop neither."""
    body = b'{"inputs":[' + filler * (31_000_000 // len(filler)) + b"0]}"
    with server.client() as client:
        response = client.post(INFER, content=body)
    assert (response.status_code, code_of(response)) == (413, "body-too-large")


def test_responses_are_rendered_beside_the_event_loop(
    server: Hosted, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[str] = []
    build = tensors.build_response

    def record(*arguments: Any) -> Any:
        threads.append(threading.current_thread().name)
        return build(*arguments)

    monkeypatch.setattr("solobox.serve.tensors.build_response", record)
    tensor = {"name": "pixels", "shape": [1, 1, 1, 3], "datatype": "UINT8", "data": [1, 2, 3]}
    with server.client() as client:
        assert client.post(INFER, json={"inputs": [tensor]}).status_code == 200
    assert threads[0].startswith("decode")


# Connections ----------------------------------------------------------------------------------------------------


def connections(server: Hosted) -> int:
    return len(server.server.server_state.connections)


def until(condition: Callable[[], bool]) -> None:
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it never came true")


def get(sock: socket.socket, path: str) -> int:
    sock.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    return read_response(sock)[0]


@pytest.mark.parametrize("limit", ["max_connections", "max_client_connections"])
def test_idle_connections_shut_nobody_out(model: OnnxModel, limit: str) -> None:
    """The one that has been idle for longest makes room for a new one."""
    limits: dict[str, Any] = {limit: 20}
    with hosted(model, **limits) as server, ExitStack() as stack:
        idle = [stack.enter_context(server.connect()) for _ in range(20)]
        until(lambda: connections(server) == 20)
        assert get(idle[0], "/health/live") == 200  # so that the second has been idle for longer
        with server.client() as client:
            assert client.post("/v1/predict", content=image()).status_code == 200
        with pytest.raises((AssertionError, ConnectionError)):
            get(idle[1], "/health/live")
        assert get(idle[0], "/health/live") == 200
        for _ in range(200):
            stack.enter_context(server.connect())
        with server.client() as client:
            assert client.post("/v1/predict", content=image()).status_code == 200
        assert connections(server) <= 20


def test_health_is_answered_however_many_connections_are_at_work(model: OnnxModel) -> None:
    with hosted(model, max_client_connections=5) as server, ExitStack() as stack:
        for _ in range(5):
            sock = stack.enter_context(server.connect())
            sock.sendall(POST + b"Content-Length: 1000\r\n\r\nabc")
        until(lambda: server.context.uploads.used == 15)
        for _ in range(100):  # idle, and as many as the places kept for probes many times over
            stack.enter_context(server.connect())
        for path in ("/health/live", "/health/ready", "/v2/health/live"):
            with server.connect() as sock:
                assert get(sock, path) == 200
        for path in ("/", "/v1/model", "/metrics"):
            with server.connect() as sock:
                assert get(sock, path) == 503


# The end ----------------------------------------------------------------------------------------------------------

STUCK = """
import sys, time
import solobox.serve.batching as batching
from solobox.cli import main
batching.resize_to_square = lambda *_, **__: time.sleep(600)
sys.argv = ["solobox", "serve", sys.argv[1], "--port", sys.argv[2], "--drain", "1.5"]
main()
"""


def test_the_end_of_the_drain_ends_the_process(tmp_path: Path) -> None:
    """A decoder that is stuck would hold it up."""
    with running(write_model(tmp_path / "m.onnx"), program=STUCK) as server, ExitStack() as stack:
        content = image()
        socks = [stack.enter_context(socket.create_connection(("127.0.0.1", server.port))) for _ in range(3)]
        for sock in socks:
            sock.sendall(POST + f"Content-Length: {len(content)}\r\n\r\n".encode() + content)
        with server.client() as client:
            until(lambda: "solobox_queue 3.0" in client.get("/metrics").text)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) == 0
        for sock in socks:
            status, body = read_response(sock)
            assert (status, json.loads(body)["code"]) == (503, "server-stopping")
        assert server.process.stderr is not None
        assert "stopped:" in server.process.stderr.read()
