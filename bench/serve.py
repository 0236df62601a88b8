"""The server compared with its model in process: `python bench/serve.py [--model model.onnx]`.

Starts `solobox serve` on some cores and loads it over loopback from a process on others. Prints throughput against the
same model in process on the server's cores; latency of one client alone, and at half load with arrivals by a Poisson
clock (counted from when a request was meant to be sent, so that a server that falls behind cannot hide it); what three
times too much does; and what thousands of good and hostile requests leave behind. Without --model an untrained
localizer of the default parts is exported.
"""

import argparse
import asyncio
import io
import json
import os
import random
import re
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from solobox import synthetic

DEADLINE = 5.0


# The process that loads -----------------------------------------------------------------------------------


class Clients:
    """Connections to one server, kept open where it lets them."""

    def __init__(self, port: int) -> None:
        self._port, self._idle = port, list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]()

    async def send(self, request: bytes) -> int:
        """Send a whole request and give the status of its response; 0 where the server closed without one."""
        for fresh in (False, True):  # the server may have closed one that idled
            used = bool(self._idle) and not fresh
            pair = self._idle.pop() if used else await asyncio.open_connection("127.0.0.1", self._port)
            try:
                return await self._exchange(pair, request)
            except (OSError, asyncio.IncompleteReadError):
                pair[1].close()
                if not used:
                    return 0
        return 0

    async def _exchange(self, pair: tuple[asyncio.StreamReader, asyncio.StreamWriter], request: bytes) -> int:
        reader, writer = pair
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        match = re.search(rb"(?i)content-length: (\d+)", head)
        await reader.readexactly(int(match[1]) if match else 0)
        if b"connection: close" in head.lower():
            writer.close()
        else:
            self._idle.append(pair)
        return int(head[9:12])


def post(
    body: bytes, kind: str = "image/jpeg", path: str = "/v1/predict", length: int | None = None
) -> bytes:
    said = len(body) if length is None else length
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: {said}\r\n\r\n"
    )
    return head.encode() + body


async def closed(port: int, requests: Sequence[bytes], at_once: int, seconds: float) -> dict[str, Any]:
    """So many clients, each sending as soon as it has its answer."""
    clients, times, statuses = Clients(port), list[float](), Counter[int]()
    end, started = time.perf_counter() + seconds, time.perf_counter()

    async def one(at: int) -> None:
        while time.perf_counter() < end:
            begun = time.perf_counter()
            statuses[await clients.send(requests[at % len(requests)])] += 1
            times.append(time.perf_counter() - begun)
            at += at_once

    await asyncio.gather(*(one(at) for at in range(at_once)))
    return {"times": times, "statuses": dict(statuses), "seconds": time.perf_counter() - started}


async def opened(
    port: int, requests: Sequence[bytes], rate: float, seconds: float, seed: int
) -> dict[str, Any]:
    """Arrivals by a Poisson clock that waits for nobody."""
    clients, rng = Clients(port), random.Random(seed)  # noqa: S311
    finished = list[tuple[int, float]]()

    async def one(request: bytes, meant: float) -> None:
        status = await clients.send(request)
        finished.append((status, time.perf_counter() - meant))

    tasks, meant = [], time.perf_counter()
    end = meant + seconds
    while meant < end:
        await asyncio.sleep(max(0.0, meant - time.perf_counter()))
        tasks.append(asyncio.create_task(one(rng.choice(requests), meant)))
        meant += rng.expovariate(rate)
    await asyncio.gather(*tasks)
    return {
        "times": [took for status, took in finished if status == 200],
        "statuses": dict(Counter(status for status, _ in finished)),
        "seconds": time.perf_counter() - end + seconds,
    }


async def mixed(port: int, requests: Sequence[bytes], count: int, at_once: int, seed: int) -> dict[str, Any]:
    clients, rng, statuses = Clients(port), random.Random(seed), Counter[int]()  # noqa: S311
    left = count

    async def one() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            if rng.random() < 0.05:  # one that leaves in the middle
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(post(bytes(5000), length=100_000))
                writer.close()
                statuses[-1] += 1
                continue
            statuses[await clients.send(rng.choice(requests))] += 1

    started = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(at_once)))
    return {"statuses": dict(statuses), "seconds": time.perf_counter() - started, "times": []}


def hostile(good: Sequence[bytes]) -> list[bytes]:
    """As many good ones as others, which differ in what is wrong."""
    body = good[0]
    wide = (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I4sIIBBBBB", 13, b"IHDR", 2**31 - 1, 1, 8, 2, 0, 0, 0)
        + bytes(40)
    )
    part = b"--x\r\nContent-Disposition: form-data; name=a; filename=a.jpg\r\n\r\n"
    form = "multipart/form-data; boundary=x"
    bad = [
        post(b""), post(b"text, not an image"), post(body[: len(body) // 2]), post(wide), post(bytes(200_000)),
        post(body, "application/json"), post(body, path="/v1/predict?margins=7"), post(body, path="/nothing"),
        post(body, path="/v1/predict?x=" + "y" * 3000), post(part * 1000 + b"--x--\r\n", form), post(part, form),
        post(part + body + b"\r\n" + part + b"bad\r\n--x--\r\n", form),
        post(b"[" * 100_000, path="/v2/models/model/infer"),
        post(b"GET", length=33_000_000), b"GARBAGE\r\n\r\n", b"GET /%00%ff HTTP/1.1\r\nHost: localhost\r\n\r\n",
        post(b"5\r\nabcde\r\nzz\r\n").replace(b"Content-Length: 14", b"Transfer-Encoding: chunked"),
    ]  # fmt: skip
    return [post(good[at % len(good)]) for at in range(len(bad))] + bad


def client(arguments: argparse.Namespace) -> None:
    images = [path.read_bytes() for path in sorted(arguments.images.iterdir())]
    requests, port, amount = [post(body) for body in images], arguments.port, arguments.amount
    if arguments.client == "closed":
        work = closed(port, requests, arguments.at_once, amount)
    elif arguments.client == "opened":
        work = opened(port, requests, arguments.rate, amount, seed=1)
    else:
        work = mixed(port, hostile(images), int(amount), 16, seed=1)
    print(json.dumps(asyncio.run(work)))


def reference(arguments: argparse.Namespace) -> None:
    """Images a second of the model in process, by its own streaming, and milliseconds for one alone."""
    from solobox.predict.onnx_model import OnnxModel

    images = [path.read_bytes() for path in sorted(arguments.images.iterdir())]
    model = OnnxModel.load(arguments.model, threads=1)
    list(model.stream(iter(images[:8])))
    began, alone = time.perf_counter(), list[float]()
    while time.perf_counter() < began + arguments.amount / 2:
        begun = time.perf_counter()
        model.predict(images[len(alone) % len(images)])
        alone.append(time.perf_counter() - begun)

    def source() -> Iterator[bytes]:
        end = time.perf_counter() + arguments.amount
        while time.perf_counter() < end:
            yield from images[:8]

    began = time.perf_counter()
    count = sum(1 for _ in model.stream(source()))
    rate = count / (time.perf_counter() - began)
    print(json.dumps({"rate": rate, "alone": 1000 * float(np.median(alone))}))


# The process that measures ------------------------------------------------------------------------------------


def child(cores: set[int], *words: str) -> Any:
    done = subprocess.run(
        [sys.executable, __file__, "--cores", *map(str, cores), *words],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


@contextmanager
def served(model: Path, cores: set[int], port: int) -> Iterator[int]:
    code = f"import os; os.sched_setaffinity(0, {cores}); from solobox.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "serve", str(model), "--port", str(port), "--deadline", f"{DEADLINE:g}"],
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        for _ in range(600):
            time.sleep(0.1)
            try:
                measured(port, "solobox_queue")
                break
            except OSError:
                assert process.poll() is None
        yield process.pid
    finally:
        process.terminate()
        process.wait(30)


def measured(port: int, name: str) -> float:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    text = opener.open(f"http://127.0.0.1:{port}/metrics", timeout=30).read().decode()
    match = re.search(rf"^{name} (\S+)$", text, re.MULTILINE)
    assert match
    return float(match[1])


def resident(port: int) -> float:
    return measured(port, "process_resident_memory_bytes") / 1e6


def write_images(folder: Path, count: int, size: tuple[int, int]) -> None:
    for at in range(count):
        buffer = io.BytesIO()
        Image.fromarray(synthetic.draw(at, size).pixels).save(buffer, "JPEG", quality=88)
        (folder / f"{at:03d}.jpg").write_bytes(buffer.getvalue())


def exported(folder: Path) -> Path:
    from solobox import Localizer
    from solobox.config.architecture import Architecture
    from solobox.export import export

    return export(Localizer(Architecture(presence=True)).eval(), folder / "model.onnx").path


def main() -> None:
    cores = sorted(os.sched_getaffinity(0))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--server-cores", type=int, nargs="+", default=cores[:-1] or cores)
    parser.add_argument("--client-cores", type=int, nargs="+", default=cores[-1:])
    parser.add_argument("--port", type=int, default=8377)
    parser.add_argument("--client", choices=["closed", "opened", "mixed"])
    parser.add_argument("--reference", action="store_true")
    parser.add_argument("--images", type=Path)
    parser.add_argument("--at-once", type=int, default=1)
    parser.add_argument("--rate", type=float, default=1)
    parser.add_argument("--amount", type=float, default=1)
    parser.add_argument("--cores", type=int, nargs="+", help="of this process alone")
    arguments = parser.parse_args()
    if arguments.cores:
        os.sched_setaffinity(0, arguments.cores)
    if arguments.client:
        client(arguments)
    elif arguments.reference:
        reference(arguments)
    else:
        with tempfile.TemporaryDirectory() as folder:
            measure(arguments, Path(folder))


def measure(arguments: argparse.Namespace, folder: Path) -> None:
    ours, theirs, port = set(arguments.server_cores), set(arguments.client_cores), arguments.port
    images, seconds = folder / "images", arguments.seconds
    images.mkdir()
    write_images(images, 16, (640, 480))
    model = arguments.model or exported(folder)
    said = ["--images", str(images), "--port", str(port)]
    print(f"server on cores {sorted(ours)}, client on {sorted(theirs)}; 640x480 JPEG; {seconds:g} s each")

    def load(how: str, amount: float, **more: float) -> Any:
        options = [
            word for name, value in more.items() for word in (f"--{name.replace('_', '-')}", str(value))
        ]
        return child(theirs, "--client", how, "--amount", str(amount), *said, *options)

    def in_process() -> Any:
        return child(ours, "--reference", "--model", str(model), "--amount", str(seconds), *said)

    before = in_process()
    with served(model, ours, port):
        load("closed", 2, at_once=8)
        alone = 1000 * np.array(load("closed", seconds / 2, at_once=1)["times"])
        bare = float(np.median(alone))
        full = load("closed", seconds, at_once=16)
        rate = full["statuses"]["200"] / full["seconds"]
        print(f"in process   {before['rate']:7.1f} images/s, one alone {before['alone']:.1f} ms")
        print(f"bare         {bare:7.1f} ms median, {np.percentile(alone, 99):.1f} ms p99, one client")
        print(
            f"throughput   {rate:7.1f} images/s, 16 clients: {rate / before['rate']:.2f} of in process (target: 0.80)"
        )
        half = load("opened", seconds, rate=rate / 2)
        middle, p99 = 1000 * np.percentile(half["times"], [50, 99])
        print(
            f"half load    {middle:7.1f} ms median, {p99:.1f} ms p99: {p99 / bare:.1f} times bare (target: 3)"
        )
        start = resident(port)
        over = load("opened", seconds, rate=3 * rate)
        done, slowest = over["statuses"], 1000 * max(over["times"])
        print(
            f"3x overload  {done.get('200', 0) / over['seconds']:7.1f} images/s answered, {done} in all; slowest "
            f"accepted {slowest:.0f} ms (deadline {1000 * DEADLINE:.0f}); queue {measured(port, 'solobox_queue'):.0f} "
            f"after; memory {start:.0f} -> {resident(port):.0f} MB"
        )
        load("mixed", arguments.requests / 5)
        start = resident(port)
        end = load("mixed", arguments.requests)
        wrong = {s: n for s, n in end["statuses"].items() if s.startswith("5") and s not in ("503", "504")}
        memory = f"memory {start:.0f} -> {resident(port):.0f} MB"
        print(
            f"mixed        {sum(end['statuses'].values())} requests in {end['seconds']:.0f} s, {end['statuses']} "
            f"(-1: left in the middle); 5xx but 503 and 504: {wrong or 'none'}; {memory}"
        )
    print(f"in process again {in_process()['rate']:.1f} images/s")


if __name__ == "__main__":
    main()
