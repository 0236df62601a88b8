"""Half an hour of mixed traffic against the server: `python bench/soak.py model.onnx [--minutes 30]`.

Good images of several formats and sizes, broken ones, the crafted ones of tests/attacks, tensors, forms, bodies that
are too large, clients that hang up in the middle and connections that idle, with a health probe each second. Prints
requests by status, the statuses and probes that must not be, and how the server's memory grows after a warm-up.
"""

import argparse
import asyncio
import io
import os
import random
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from serve import Clients, hostile, post, served
from solobox import synthetic

TESTS = Path(__file__).parents[1] / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "attacks")]
from test_images import HOSTILE  # noqa: E402

ALLOWED_5XX = (503, 504)
LEFT, UNANSWERED = "left in the middle", "no answer in 60 s"


def good_images() -> list[tuple[str, bytes]]:
    """Type and bytes, in all formats and several sizes."""
    images = []
    for number, size in enumerate([(64, 48), (320, 240), (640, 480), (1600, 1200)]):
        for codec in ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"):
            buffer = io.BytesIO()
            Image.fromarray(synthetic.draw(number, size).pixels).save(buffer, codec)
            images.append((f"image/{codec.lower()}", buffer.getvalue()))
    return images


def tensors(rng: random.Random) -> bytes:
    """Pixels in the Open Inference Protocol, in JSON."""
    width, height = rng.randint(1, 60), rng.randint(1, 60)
    data = ",".join(str(rng.randrange(256)) for _ in range(width * height * 3))
    text = f'{{"inputs":[{{"name":"pixels","shape":[1,{height},{width},3],"datatype":"UINT8","data":[{data}]}}]}}'
    return post(text.encode(), "application/json", "/v2/models/model/infer")


def form(images: list[bytes]) -> bytes:
    parts = [
        b"--x\r\nContent-Disposition: form-data; name=a; filename=a.jpg\r\n\r\n" + body + b"\r\n"
        for body in images
    ]
    return post(b"".join(parts) + b"--x--\r\n", "multipart/form-data; boundary=x")


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


class Traffic:
    """What is sent to one server until an end, and what comes back."""

    def __init__(self, port: int, pid: int, end: float, seed: int) -> None:
        self._port, self._pid, self._end = port, pid, end
        self._rng = random.Random(seed)  # noqa: S311
        images = good_images()
        bodies = [body for _, body in images]
        self._good = [post(body, kind) for kind, body in images]
        self._bad = hostile(bodies[:1])[1:]
        self._crafted = [post(make()) for make in HOSTILE.values()]
        self._forms = [form(bodies[at : at + 3]) for at in range(0, len(bodies), 3)]
        self._oversized = post(bytes(33_000_000))
        self.statuses, self.probes = Counter[str](), Counter[bool]()
        self.memory: list[tuple[float, float]] = []

    async def run(self, at_once: int) -> None:
        """Send with so many clients, and all the rest beside them."""
        self._started = time.monotonic()
        loads = [self._load() for _ in range(at_once)]
        await asyncio.gather(*loads, self._probe(), self._scrape(), self._idle(), self._measure())

    def _request(self) -> bytes:
        kind = self._rng.random()
        if kind < 0.55:
            return self._rng.choice(self._good)
        if kind < 0.75:
            return self._rng.choice(self._bad)
        if kind < 0.85:
            return self._rng.choice(self._crafted)
        if kind < 0.92:
            return tensors(self._rng)
        return self._rng.choice(self._forms) if kind < 0.995 else self._oversized

    async def _load(self) -> None:
        clients = Clients(self._port)
        while time.monotonic() < self._end:
            if self._rng.random() < 0.05:
                await self._hang_up()
                continue
            try:
                status = await asyncio.wait_for(clients.send(self._request()), 60)
                self.statuses[str(status or "closed without an answer")] += 1
            except TimeoutError:
                self.statuses[UNANSWERED] += 1
            except OSError:  # no connection
                self.statuses["refused"] += 1

    async def _hang_up(self) -> None:
        request = self._rng.choice(self._good)
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self._port)
            writer.write(request[: self._rng.randint(1, len(request))])
            await asyncio.sleep(self._rng.random() * 0.2)
            writer.close()
            self.statuses[LEFT] += 1
        except OSError:
            self.statuses["refused"] += 1

    async def _probe(self) -> None:
        while time.monotonic() < self._end:
            try:
                path = self._rng.choice(["/health/live", "/health/ready"])
                status = await asyncio.wait_for(Clients(self._port).send(get(path)), 5)
            except (TimeoutError, OSError):
                status = 0
            self.probes[status == 200] += 1
            await asyncio.sleep(1)

    async def _scrape(self) -> None:
        clients = Clients(self._port)
        while time.monotonic() < self._end:
            self.statuses[str(await clients.send(get("/metrics")))] += 1
            await asyncio.sleep(5)

    async def _idle(self) -> None:
        while time.monotonic() < self._end:
            pairs = [await asyncio.open_connection("127.0.0.1", self._port) for _ in range(100)]
            await asyncio.sleep(min(20, max(0, self._end - time.monotonic())))
            for _, writer in pairs:
                writer.close()

    async def _measure(self) -> None:
        status = Path(f"/proc/{self._pid}/status")
        while time.monotonic() < self._end:
            kilobytes = next(line for line in status.read_text().splitlines() if line.startswith("VmRSS"))
            self.memory.append((time.monotonic() - self._started, int(kilobytes.split()[1]) / 1000))
            await asyncio.sleep(2)


def slope(samples: npt.NDArray[np.float64]) -> tuple[float, float]:
    """MB an hour by least squares, and its standard error.

    Of means of 30 seconds: samples that follow one another are alike, and their error would be too small.
    """
    block = samples[:, 0] // 30
    means = np.array([samples[block == number].mean(0) for number in np.unique(block)])
    if len(means) < 3:
        return float("nan"), float("nan")
    hours, megabytes = means[:, 0] / 3600, means[:, 1]
    centred = hours - hours.mean()
    rate = float(centred @ megabytes / (centred @ centred))
    rest = megabytes - megabytes.mean() - rate * centred
    return rate, float(np.sqrt(rest @ rest / (len(means) - 2) / (centred @ centred)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--port", type=int, default=8378)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with served(arguments.model, os.sched_getaffinity(0), arguments.port) as pid:
        traffic = Traffic(arguments.port, pid, time.monotonic() + 60 * arguments.minutes, arguments.seed)
        asyncio.run(traffic.run(arguments.clients))
    memory = np.array(traffic.memory)
    warm = memory[memory[:, 0] >= 10 * arguments.minutes]  # a sixth of the time
    rate, error = slope(warm)
    statuses = traffic.statuses
    wrong = {s: n for s, n in statuses.items() if s.startswith("5") and int(s) not in ALLOWED_5XX}
    for name, count in sorted(statuses.items()):
        print(f"| {name} | {count:,} |")
    print(f"| all, in {arguments.minutes:g} minutes | {statuses.total():,} |")
    print(f"| 5xx but 503 and 504 | {wrong or 0} |")
    print(f"| health probes failed | {traffic.probes[False]} of {traffic.probes.total()} |")
    print(f"| memory, MB: start, after a sixth, end, most | {memory[0, 1]:.0f}, {warm[0, 1]:.0f}, "
          f"{memory[-1, 1]:.0f}, {memory[:, 1].max():.0f} |")  # fmt: skip
    print(f"| slope after a sixth, MB an hour | {rate:.1f} ± {error:.1f} |")
    sys.exit(bool(wrong or traffic.probes[False]))


if __name__ == "__main__":
    main()
