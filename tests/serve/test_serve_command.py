"""The command: what it refuses at the start, and how it stops."""

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import onnx
import pytest
from onnx import TensorProto, helper

from solobox.serve.server import listen

from server_process import KEY, command, running  # isort: skip
from colour_model import image, write_model  # isort: skip

JPEG = {"Content-Type": "image/jpeg"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "model.onnx")


def refused(*words: str | Path, **variables: str) -> str:
    environment = {**os.environ, "COLUMNS": "200", **variables}
    done = subprocess.run(
        command(*words), capture_output=True, text=True, check=False, env=environment, timeout=60
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    return " ".join(done.stderr.split())


def test_models_that_are_none(model: Path, tmp_path: Path) -> None:
    assert "error[model-missing]" in refused(tmp_path / "missing.onnx")
    half = tmp_path / "half.onnx"
    half.write_bytes(model.read_bytes()[: model.stat().st_size // 2])
    assert "error[model-damaged]" in refused(half)
    text = tmp_path / "text.onnx"
    text.write_text("no model at all")
    assert "error[model-damaged]" in refused(text)
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("a", "b")]
    graph = helper.make_graph([helper.make_node("Identity", ["a"], ["b"])], "g", values[:1], values[1:])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10),
        tmp_path / "other.onnx",
    )
    assert "error[model-foreign]" in refused(tmp_path / "other.onnx")


@pytest.mark.parametrize(
    ("words", "variables", "says"),
    [
        (["--host", "0.0.0.0"], {}, "SOLOBOX_API_KEY"),  # noqa: S104
        (["--host", "::"], {}, "--without-key"),
        (["--host", "no.such.name.invalid"], {}, "there is no such address"),
        (["--without-key"], {"SOLOBOX_API_KEY": KEY}, "contradict"),
        ([], {"SOLOBOX_API_KEY": ""}, "set, but empty"),
        ([], {"SOLOBOX_API_KEY": "short"}, "easy to guess"),
        ([], {"SOLOBOX_API_KEY": "with a space in it, so no header"}, "without spaces"),
        (["--allow-host", "http://x"], {}, "error[address-invalid]"),
        (["--allow-origin", "x"], {}, "error[address-invalid]"),
        (["--queue", "0"], {}, "max_queue is more than 0"),
        (["--deadline", "-1"], {}, "deadline is more than 0"),
        (["--threads", "-1"], {}, "--threads is 0 or more"),
        (["--deadline", "nan"], {}, "deadline is more than 0"),
        (["--port", "65536"], {}, "error[out-of-range]: --port is 0 to 65535, not 65536"),
        (["--port", "-1"], {}, "error[out-of-range]: --port is 0 to 65535, not -1"),
    ],
)
def test_settings_that_make_no_sense(
    model: Path, words: list[str], variables: dict[str, str], says: str
) -> None:
    assert says in refused(model, *words, **variables)


def test_a_port_that_is_taken(model: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert "cannot listen at" in refused(model, "--port", str(port))


def test_a_port_is_not_shared_where_an_address_that_is_reused_would_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On Windows alone there is this option, here another one in its place."""
    with listen("127.0.0.1", 0, public=False) as listener:
        assert listener.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)
    monkeypatch.setattr(socket, "SO_EXCLUSIVEADDRUSE", socket.SO_KEEPALIVE, raising=False)
    with listen("127.0.0.1", 0, public=False) as listener:
        assert listener.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert not listener.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)


def test_hosts_of_a_proxy(model: Path) -> None:
    with (
        running(model, "--allow-host", "a.example", "--allow-host", "b.example") as server,
        server.client() as client,
    ):
        for host, status in (("a.example", 200), ("b.example:80", 200), ("c.example", 403)):
            assert client.get("/v1/model", headers={"Host": host}).status_code == status


def test_all_addresses_with_a_key(model: Path) -> None:
    with running(model, "--host", "0.0.0.0", variables={"SOLOBOX_API_KEY": KEY}) as server:  # noqa: S104
        with server.client() as client:
            assert client.post("/v1/predict", content=image(), headers=JPEG).status_code == 401
            answer = client.post(
                "/v1/predict", content=image(), headers={**JPEG, "Authorization": f"Bearer {KEY}"}
            )
            assert answer.status_code == 200
        server.process.send_signal(signal.SIGINT)
        _, said = server.process.communicate(timeout=30)
    assert server.process.returncode == 0
    assert KEY not in said
    assert "requests need the key in SOLOBOX_API_KEY" in said


PROGRAM = """
import sys, time
from solobox.predict.onnx_model import OnnxModel
from solobox.serve.app import build_app
from solobox.serve.server import Server, listen
from solobox.serve.state import ServerContext
from solobox.serve.settings import ServerSettings

class Slow(OnnxModel):
    def infer(self, pixels):
        time.sleep(0.03)
        return super().infer(pixels)

settings = ServerSettings(drain_delay=0.3, drain=8, max_queue=512)
context = ServerContext.create(Slow.load(sys.argv[1], threads=1), "model", settings)
Server(build_app(context), settings, context.state).run(sockets=[listen("127.0.0.1", int(sys.argv[2]), public=False)])
print(f"received {context.state.received} answered {context.state.answered}", file=sys.stderr)
"""


async def ended_under_load(url: str, process: "subprocess.Popen[str]") -> tuple[int, float]:
    """Responses that clients had in all, and seconds from the signal until readiness was off."""
    had = 0
    going = True
    content = image()

    async def keep_sending(client: httpx.AsyncClient) -> None:
        nonlocal had
        while going:
            try:
                response = await client.post(f"{url}/v1/predict", content=content, headers=JPEG)
            except (httpx.ConnectError, httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError):
                await asyncio.sleep(0.01)  # it was not accepted, or the counts will differ
                continue
            had += 1
            assert response.status_code == 200, response.text

    limits = httpx.Limits(max_connections=40)
    async with httpx.AsyncClient(trust_env=False, timeout=30, limits=limits) as client:
        sending = [asyncio.create_task(keep_sending(client)) for _ in range(12)]
        await asyncio.sleep(0.3)
        signalled = time.monotonic()
        process.send_signal(signal.SIGTERM)
        while True:
            try:
                status = (await client.get(f"{url}/health/ready")).status_code
            except httpx.HTTPError:
                break
            had += 1
            if status == 503:
                break
        off = time.monotonic() - signalled
        await asyncio.to_thread(process.wait, 20)
        going = False
        await asyncio.gather(*sending)
    return had, off


def end_once(model: Path) -> None:
    with running(model, program=PROGRAM) as server:
        with server.client() as client:
            before = int(
                re.findall(r"solobox_request_seconds_count{.*} (\d+)", client.get("/metrics").text)[0]
            )
        had, off = asyncio.run(ended_under_load(server.url, server.process))
        assert off < 1
        assert server.process.returncode == 0
        assert server.process.stderr is not None
        said = server.process.stderr.read()
    received, answered = map(int, re.findall(r"received (\d+) answered (\d+)", said)[0])
    # Each request that was received was answered, and its client has the answer.
    assert received == answered == before + 1 + had


def test_sigterm_under_load_loses_nothing(model: Path) -> None:
    end_once(model)


@pytest.mark.slow
def test_sigterm_under_load_several_times(model: Path) -> None:
    for _ in range(5):
        end_once(model)


def test_a_second_signal_ends_the_waiting(model: Path) -> None:
    with running(model) as server, socket.create_connection(("127.0.0.1", server.port)) as sock:
        sock.sendall(b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n")
        time.sleep(0.2)
        server.process.send_signal(signal.SIGINT)
        time.sleep(0.5)
        assert server.process.poll() is None  # it waits for the rest of this one
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(10) == 0


def test_the_server_needs_no_torch(model: Path) -> None:
    code = f"""
import sys
for name in ("torch", "torchvision", "timm", "lightning_fabric", "openvino", "matplotlib", "jinja2", "onnx"):
    sys.modules[name] = None
from solobox.predict.onnx_model import OnnxModel
import solobox.cli.serve, solobox.serve.server
from solobox.serve.app import build_app
from solobox.serve.state import ServerContext
from solobox.serve.settings import ServerSettings
build_app(ServerContext.create(OnnxModel.load({str(model)!r}), "m", ServerSettings()))
print("fine")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "fine", done.stderr
