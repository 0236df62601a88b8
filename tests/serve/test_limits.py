"""Each limit is reached: the error, and that the server goes on."""

import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from solobox.page import page_files
from solobox.predict.onnx_model import OnnxModel
from solobox.serve.middleware import KEYLESS_PATHS

from server_in_thread import BlockedModel, Hosted, hosted, read_response  # isort: skip
from server_process import KEY  # isort: skip
from colour_model import image, write_model  # isort: skip

JPEG = {"Content-Type": "image/jpeg"}
POST = b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> OnnxModel:
    return OnnxModel.load(write_model(tmp_path_factory.mktemp("model") / "model.onnx"), threads=1)


@pytest.fixture
def held(model: OnnxModel) -> BlockedModel:
    return BlockedModel(model)


@pytest.fixture(scope="module")
def server(model: OnnxModel) -> Iterator[Hosted]:
    """Little patience, and a cap of 100 kB."""
    with hosted(model, max_bytes=100_000, head_timeout=0.5, read_timeout=0.5, body_timeout=1.5) as started:
        yield started


def check_error(status: int, body: bytes, expected: int, code: str) -> None:
    error = json.loads(body)
    assert (status, error["code"]) == (expected, code), body
    assert error["message"]
    assert error["hint"]


def still_answers(server: Hosted) -> None:
    with server.client() as client:
        assert client.post("/v1/predict", content=image(), headers=JPEG).status_code == 200


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


# Bodies ------------------------------------------------------------------------------------------------


def test_a_body_over_the_cap(server: Hosted) -> None:
    """Its sender hears why, though it sends all of it before it reads."""
    with server.client() as client:
        for content in (bytes(150_000), iter([bytes(20_000)] * 8)):  # the second is chunked
            response = client.post("/v1/predict", content=content, headers=JPEG)
            check_error(response.status_code, response.content, 413, "body-too-large")
            # A chunked body may have arrived whole before the server counted it.
            if isinstance(content, bytes):
                assert response.headers["connection"] == "close"
    still_answers(server)


def test_an_endless_chunked_body_is_cut_off(server: Hosted) -> None:
    chunk = b"4000\r\n" + bytes(0x4000) + b"\r\n"
    with server.connect() as sock:
        sock.sendall(POST + b"Transfer-Encoding: chunked\r\n\r\n")
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            _send_for_ever(sock, chunk)
    until(lambda: server.context.uploads.used == 0)
    still_answers(server)


def _send_for_ever(sock: socket.socket, chunk: bytes) -> None:
    while True:
        sock.sendall(chunk)


def test_a_length_that_lies(server: Hosted) -> None:
    content = image()
    with server.connect() as sock:  # more was said than comes
        sock.sendall(POST + f"Content-Length: {len(content) + 50}\r\n\r\n".encode() + content)
        check_error(*read_response(sock), 408, "request-timeout")
    with server.connect() as sock:  # more comes than was said
        sock.sendall(POST + b"Content-Length: 10\r\n\r\n" + content)
        status, body = read_response(sock)
        assert status in (415, 422), body
        assert set(json.loads(body)) == {"code", "message", "hint"}
    for length in (b"-1", b"1e9", b"9" * 30):
        with server.connect() as sock:
            sock.sendall(POST + b"Content-Length: " + length + b"\r\n\r\n")
            status, body = read_response(sock)
            assert (status, json.loads(body)["code"]) in ((400, "invalid-http"), (413, "body-too-large"))
    still_answers(server)


def test_invalid_http(server: Hosted) -> None:
    for sent in (b"\x16\x03\x01hello tls\r\n\r\n", b"GET / HTTP/9\r\n\r\n", b"GET /" + b"a" * 100_000):
        with server.connect() as sock:
            sock.sendall(sent)
            check_error(*read_response(sock), 400, "invalid-http")
    with server.connect() as sock:  # a chunk without a length, in the middle of a body
        sock.sendall(POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n")
        check_error(*read_response(sock), 400, "invalid-http")
    still_answers(server)


def test_slow_clients_are_disconnected(server: Hosted) -> None:
    with server.connect() as sock:
        check_error(*read_response(sock), 408, "request-timeout")  # that says nothing at all
    with server.connect() as sock:
        sock.sendall(POST)  # nor ever ends its head
        check_error(*read_response(sock), 408, "request-timeout")
    with server.connect() as sock:
        sock.sendall(POST + b"Content-Length: 1000\r\n\r\nabc")
        check_error(*read_response(sock), 408, "request-timeout")
    until(lambda: server.context.uploads.used == 0)
    still_answers(server)


def test_a_client_that_sends_a_byte_at_a_time_is_disconnected(server: Hosted) -> None:
    """Never a pause that is too long, and yet too slow on the whole: a body, and a head on a used connection."""
    with server.connect() as sock:
        sock.sendall(POST + b"Content-Length: 100000\r\n\r\n")
        _drip(sock)
        check_error(*read_response(sock), 408, "request-timeout")
    with server.connect() as sock:
        sock.sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert read_response(sock)[0] == 200
        _drip(sock)
        check_error(*read_response(sock), 408, "request-timeout")


def _drip(sock: socket.socket) -> None:
    sock.settimeout(0.05)
    for _ in range(1200):
        try:
            sock.sendall(b"x")
            if sock.recv(1, socket.MSG_PEEK):
                break
        except TimeoutError:
            continue
        except OSError:
            break
    sock.settimeout(20)


def test_a_client_that_leaves_in_the_middle(server: Hosted) -> None:
    for _ in range(20):
        sock = server.connect()
        sock.sendall(POST + b"Content-Length: 90000\r\n\r\n" + bytes(40_000))
        sock.close()
    until(lambda: server.context.uploads.used == 0 and not server.server.server_state.tasks)
    assert server.context.batcher.pending == 0
    still_answers(server)


def test_bodies_together_are_bounded(model: OnnxModel) -> None:
    with hosted(model, max_bytes=10_000, read_timeout=20) as server:
        socks = [server.connect() for _ in range(16)]
        for sock in socks:
            sock.sendall(POST + b"Content-Length: 10000\r\n\r\n" + bytes(9_999))
        until(lambda: server.context.uploads.used == 16 * 9_999)
        with server.client() as client:
            response = client.post("/v1/predict", content=image(size=(300, 300)), headers=JPEG)
        check_error(response.status_code, response.content, 429, "server-busy")
        for sock in socks:
            sock.close()
        until(lambda: server.context.uploads.used == 0)
        still_answers(server)


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"Content-Type": "application/json"}, "unsupported-media-type"),
        ({"Content-Type": "text/plain"}, "unsupported-media-type"),
        (
            {"Content-Type": "application/x-www-form-urlencoded", "Content-Encoding": "gzip"},
            "unsupported-encoding",
        ),
        ({"Content-Type": "image/png", "Content-Encoding": "gzip"}, "unsupported-encoding"),
    ],
)
def test_unsupported_types_of_body(server: Hosted, headers: dict[str, str], code: str) -> None:
    with server.client() as client:
        response = client.post("/v1/predict", content=image(), headers=headers)
    check_error(response.status_code, response.content, 415, code)


def test_too_many_connections(model: OnnxModel) -> None:
    with hosted(model, max_connections=3) as server:
        busy = [server.connect() for _ in range(3)]
        for sock in busy:
            sock.sendall(POST + b"Content-Length: 1000\r\n\r\nabc")
        until(lambda: server.context.uploads.used == 9)
        with server.connect() as sock:
            sock.sendall(b"GET /v1/model HTTP/1.1\r\nHost: localhost\r\n\r\n")
            check_error(*read_response(sock), 503, "too-many-connections")
        for sock in busy:
            sock.close()
        until(lambda: not server.server.server_state.connections)
        still_answers(server)


# The queue ---------------------------------------------------------------------------------------------


def post(pool: ThreadPoolExecutor, server: Hosted) -> "Future[httpx.Response]":
    return pool.submit(
        httpx.post, f"{server.url}/v1/predict", content=image(), headers=JPEG, timeout=60, trust_env=False
    )


def test_a_full_queue_sends_retry_after(held: BlockedModel) -> None:
    with hosted(held, max_queue=4, max_images=3, deadline=60) as server, ThreadPoolExecutor(8) as pool:
        held.go.clear()
        waiting = [post(pool, server) for _ in range(4)]
        until(lambda: server.context.batcher.pending == 4)
        with server.client() as client:
            for _ in range(3):
                response = client.post("/v1/predict", content=image(), headers=JPEG)
                check_error(response.status_code, response.content, 429, "server-busy")
                assert int(response.headers["retry-after"]) >= 1
            # Health is answered all the same, and the page with it.
            assert client.get("/health/ready").status_code == 200
            assert client.get("/").status_code == 200
            assert "solobox_refused_total 3.0" in client.get("/metrics").text
        held.go.set()
        assert [each.result().status_code for each in waiting] == [200] * 4
        assert server.context.batcher.pending == 0
        # A form takes as many places as it has images, or none.
        held.go.clear()
        held.entered.clear()
        two = [post(pool, server) for _ in range(2)]
        until(lambda: server.context.batcher.pending == 2)
        with server.client() as client:
            response = client.post("/v1/predict", files=[("f", ("a.png", image()))] * 3)
            check_error(response.status_code, response.content, 429, "server-busy")
        assert server.context.batcher.pending == 2
        held.go.set()
        assert [each.result().status_code for each in two] == [200] * 2


def test_work_beyond_the_deadline_is_dropped(held: BlockedModel) -> None:
    with hosted(held, deadline=0.6, max_batch=1) as server, ThreadPoolExecutor(8) as pool:
        held.batches.clear()
        held.go.clear()
        late = [post(pool, server) for _ in range(5)]
        for each in late:
            response = each.result()
            check_error(response.status_code, response.content, 504, "deadline-exceeded")
        assert server.context.batcher.pending == 0
        held.go.set()
        still_answers(server)
        assert len(held.batches) == 2  # the one in work and the new one; the other four were dropped


def test_work_for_a_client_that_left_is_dropped(held: BlockedModel) -> None:
    with hosted(held, deadline=60, max_batch=1) as server:
        held.batches.clear()
        held.go.clear()
        content = image()
        socks = [server.connect() for _ in range(4)]
        for sock in socks:
            sock.sendall(POST + f"Content-Length: {len(content)}\r\n\r\n".encode() + content)
        until(lambda: server.context.batcher.pending == 4)
        for sock in socks:
            sock.close()
        until(lambda: server.context.batcher.pending == 0)
        held.go.set()
        still_answers(server)
        assert len(held.batches) <= 2


def test_a_failing_model_reveals_nothing(held: BlockedModel, caplog: pytest.LogCaptureFixture) -> None:
    with hosted(held) as server, server.client() as client:
        held.fails = True
        response = client.post("/v1/predict", content=image(), headers=JPEG)
        check_error(response.status_code, response.content, 503, "model-failed")
        assert "secret" not in response.text
        assert "secret of the model" in caplog.text  # the log has it
        held.fails = False
        still_answers(server)


def test_a_bug_of_the_server_reveals_no_traceback(
    model: OnnxModel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a secret")

    with hosted(model) as server, server.client() as client:
        monkeypatch.setattr("solobox.serve.predict.prediction_body", broken)
        response = client.post("/v1/predict", content=image(), headers=JPEG)
        check_error(response.status_code, response.content, 500, "internal-error")
        assert "secret" not in response.text
    assert "ZeroDivisionError" in caplog.text


# API key and headers --------------------------------------------------------------------------------


def test_the_key(model: OnnxModel) -> None:
    with hosted(model, api_key=KEY) as server, server.client() as client:
        for path in KEYLESS_PATHS:
            # "/health" is there for Label Studio alone: tests/serve/test_label_studio.py.
            assert client.get(path).status_code == (404 if path == "/health" else 200)
        for headers in (
            {},
            {"Authorization": "Bearer wrong"},
            {"Authorization": f"Basic {KEY}"},
            {"X-API-Key": KEY[:-1]},
            {"X-API-Key": KEY + "x"},
        ):
            for method, path in (
                ("POST", "/v1/predict"), ("GET", "/v1/model"), ("GET", "/metrics"), ("GET", "/openapi.json"),
                ("POST", "/v2/models/model/infer"), ("GET", "/nothing"),
            ):  # fmt: skip
                response = client.request(method, path, headers=headers)
                check_error(response.status_code, response.content, 401, "invalid-api-key")
                assert response.headers["www-authenticate"] == "Bearer"
        odd = client.get("/v1/model", headers=[(b"X-API-Key", "schlüssel".encode())])
        assert odd.status_code == 401
        for headers in (
            {"Authorization": f"Bearer {KEY}"},
            {"authorization": f"bearer {KEY}"},
            {"X-API-Key": KEY},
        ):
            response = client.post("/v1/predict", content=image(), headers={**JPEG, **headers})
            assert response.status_code == 200


def test_headers_for_browsers(server: Hosted) -> None:
    with server.client() as client:
        page = client.get("/")
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        parts = [client.get(f"/page/{name}") for name in page_files("server")]
        assert all(part.status_code == 200 for part in parts)
        assert all(name in page.text + "".join(part.text for part in parts) for name in page_files("server"))
        for response in (
            page,
            *parts,
            client.get("/v1/model"),
            client.get("/nothing"),
            client.post("/v1/predict"),
        ):
            assert response.headers["x-content-type-options"] == "nosniff"
            assert "frame-ancestors 'none'" in response.headers["content-security-policy"]
            assert "access-control-allow-origin" not in response.headers
            assert "server" not in response.headers
        for response in (page, *parts):
            assert re.findall(r"\w+://[^\"\')]*", response.text) in ([], ["http://www.w3.org/2000/svg"])


def test_another_sites_page_may_not_post(server: Hosted) -> None:
    with server.client() as client:
        for site, status in (("cross-site", 403), ("same-origin", 200), ("none", 200)):
            response = client.post("/v1/predict", content=image(), headers={**JPEG, "Sec-Fetch-Site": site})
            assert response.status_code == status
        preflight = client.options(
            "/v1/predict", headers={"Origin": "http://evil", "Access-Control-Request-Method": "POST"}
        )
        check_error(preflight.status_code, preflight.content, 403, "cross-site-request")


def test_unknown_addresses_and_methods(server: Hosted) -> None:
    with server.client() as client:
        for path in ("/nothing", "/v1/../../etc/passwd", "/%2e%2e/etc/passwd", "/docs", "/v1/predict/"):
            response = client.get(path)
            check_error(response.status_code, response.content, 404, "not-found")
        response = client.get("/v1/predict")
        check_error(response.status_code, response.content, 405, "method-not-allowed")
        assert response.headers["allow"] == "POST"
        response = client.head("/health/ready")
        assert (response.status_code, response.content) == (200, b"")
        made_up = client.request("BREW", "/health/live")
        check_error(made_up.status_code, made_up.content, 405, "method-not-allowed")
        assert "BREW" not in client.get("/metrics").text


def test_metrics(model: OnnxModel) -> None:
    with hosted(model) as server, server.client() as client:
        for content in (image(), image(), b"nothing"):
            client.post("/v1/predict", content=content, headers=JPEG)
        client.get("/nothing/with/an/endless/number/of/paths")
        text = client.get("/metrics").text
    assert 'solobox_images_total{result="ok"} 2.0' in text
    assert 'solobox_images_total{result="image-unsupported-format"} 1.0' in text
    assert 'solobox_requests_total{method="POST",route="/v1/predict",status="200"} 2.0' in text
    assert 'solobox_requests_total{method="GET",route="other",status="404"} 1.0' in text
    assert "solobox_batch_images_sum 2.0" in text
    assert "process_resident_memory_bytes" in text
    assert "endless" not in text


def test_keep_alive_survives_errors(server: Hosted) -> None:
    """A small request that is refused after it was read costs its client no new connection."""
    with server.client() as client:
        for _ in range(5):
            assert client.post("/v1/predict", content=b"x", headers=JPEG).status_code == 415
        until(lambda: len(server.server.server_state.connections) == 1)


def test_a_client_that_never_reads_is_disconnected(server: Hosted) -> None:
    """It asks for the page over and over, and takes nothing."""
    done = threading.Event()
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(("127.0.0.1", server.port))
        sock.settimeout(0.2)

        def ask() -> None:
            for _ in range(4000):
                try:
                    sock.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20)
                except TimeoutError:
                    continue
                except OSError:
                    break
            done.set()

        thread = threading.Thread(target=ask)
        thread.start()
        assert done.wait(60)
        thread.join()
    still_answers(server)


def test_no_response_has_the_path_of_the_model(model: OnnxModel, tmp_path: Path) -> None:
    with hosted(model) as server, server.client() as client:
        texts: list[Any] = [
            client.get(path).text for path in ("/v1/model", "/v2", "/v2/models/model", "/metrics", "/")
        ]
    assert str(model.path.parent) not in "".join(texts)
