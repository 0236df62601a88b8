"""Images in, boxes out: good ones, odd ones and bad ones."""

import io
import struct
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from solobox.predict.onnx_model import Model

from serving_hosting import HeldModel, Hosted, hosted  # isort: skip
from serving_model import expected_box, image, write_model  # isort: skip

COLOUR = (200, 100, 50)
JPEG = {"Content-Type": "image/jpeg"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return Model.load(write_model(tmp_path_factory.mktemp("model") / "model.onnx"), threads=1)


@pytest.fixture(scope="module")
def server(model: Model) -> Iterator[Hosted]:
    with hosted(model, max_bytes=500_000) as started:
        yield started


@pytest.fixture
def client(server: Hosted) -> Iterator[httpx.Client]:
    with server.client() as opened:
        yield opened


def send(client: httpx.Client, content: bytes, query: str = "", kind: str = "image/jpeg") -> httpx.Response:
    return client.post(f"/v1/predict{query}", content=content, headers={"Content-Type": kind})


def check_fault(response: httpx.Response, status: int, code: str) -> dict[str, str]:
    assert response.status_code == status, response.text
    body: dict[str, str] = response.json()
    assert body["code"] == code
    assert all(body[key] for key in ("message", "what_to_do"))
    assert set(body) <= {"code", "message", "what_to_do", "error"}
    assert "Traceback" not in response.text
    return body


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_one_image(client: httpx.Client, model: Model) -> None:
    content = image(COLOUR)
    answer = send(client, content).json()
    (wanted,) = model.predict(content)
    assert answer["size"] == [80, 60]
    assert answer["box"] == pytest.approx(wanted.box, abs=1e-3)
    assert answer["box"] == pytest.approx(expected_box(COLOUR, (80, 60)), abs=2e-3)
    assert answer["margins"]["level"] == 0.9
    assert answer["margins"]["lower"] == pytest.approx(wanted.lower, abs=1e-3)
    assert answer["margins"]["upper"] == pytest.approx(wanted.upper, abs=1e-3)
    assert answer["presence"] == pytest.approx(wanted.presence, abs=1e-5)
    assert answer["familiarity"] == pytest.approx(wanted.familiarity, abs=1e-5)
    assert answer["outer"] is None
    assert answer["error"] is None


@pytest.mark.parametrize("kind", ["application/octet-stream", "image/png", "IMAGE/JPEG; x=y", None])
def test_the_type_is_only_looked_at_for_its_kind(client: httpx.Client, kind: str | None) -> None:
    headers = {} if kind is None else {"Content-Type": kind}
    assert client.post("/v1/predict", content=image(), headers=headers).status_code == 200


def test_levels_outer_and_presence(client: httpx.Client, model: Model) -> None:
    content = image(COLOUR)
    wide = send(client, content, "?margins=0.99").json()
    (wanted,) = model.predict(content, level=0.99)
    assert wide["margins"]["lower"] == pytest.approx(wanted.lower, abs=1e-3)
    outer = send(client, content, "?outer=0.8").json()
    (wanted,) = model.predict(content, level=0.8, outer=True)
    assert outer["outer"]["box"] == pytest.approx(wanted.outer, abs=1e-3)
    assert outer["margins"] is None
    absent = send(client, content, "?min_presence=0.9").json()
    assert absent["box"] is None
    assert absent["margins"] is None
    assert absent["presence"] == pytest.approx(200 / 255, abs=1e-5)
    assert send(client, content, "?min_presence=0.5").json()["box"]


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("?margin=0.9", "Is it margins?"),
        ("?margins=0.9&outer=0.9", "Give one of them"),
        ("?margins=much", "Give a number"),
        ("?margins=nan", "wrong_parameter"),
        ("?margins=0.2", "0.5 to 0.999"),
        ("?margins=0.999", "held-out images"),
        ("?min_presence=2", "less than or equal to 1"),
        ("?name=x", "There are margins, outer, min_presence"),
        ("?margins=0.9&margins=0.5", ""),
    ],
)
def test_wrong_parameters(client: httpx.Client, query: str, says: str) -> None:
    if says:
        body = check_fault(send(client, image(), query), 422, "wrong_parameter")
        assert says in str(body)
    else:  # the last one counts, as in most servers
        assert send(client, image(), query).status_code == 200


def test_a_model_without_figures(tmp_path: Path) -> None:
    bare = Model.load(write_model(tmp_path / "bare.onnx", calibrated=False, figures=False))
    with hosted(bare) as server, server.client() as client:
        answer = send(client, image()).json()
        assert answer["box"]
        assert [answer[key] for key in ("margins", "outer", "presence", "familiarity")] == [None] * 4
        assert "not calibrated" in send(client, image(), "?margins=0.9").text
        assert "never learned presence" in send(client, image(), "?min_presence=0.9").text
        assert client.get("/v1/model").json()["margins"] == []
        outputs = client.get("/v2/models/model").json()["outputs"]
        assert [each["name"] for each in outputs] == ["boxes"]


def test_several_images_are_answered_one_by_one(client: httpx.Client) -> None:
    files = [
        ("file", ("a.png", image(COLOUR))),
        ("file", ("notes.jpg", b"hello")),
        ("other", ("b.png", image((0, 0, 0), (40, 40)))),
    ]
    answers = client.post("/v1/predict", files=files).json()["images"]
    assert [answer["name"] for answer in answers] == ["a.png", "notes.jpg", "b.png"]
    assert answers[0]["box"] == pytest.approx(expected_box(COLOUR, (80, 60)), abs=2e-3)
    assert answers[1]["box"] is None
    assert answers[1]["error"]["code"] == "unsupported_format"
    assert answers[2]["box"] == pytest.approx(expected_box((0, 0, 0), (40, 40)), abs=2e-3)


def png_of_size(width: int, height: int) -> bytes:
    """A PNG whose header says so, and that has hardly any pixels."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(900)))
        + chunk(b"IEND", b"")
    )


BAD = {
    "empty": (b"", 422, "empty"),
    "text": (b"this is a text, whatever its name says", 415, "unsupported_format"),
    "html": (b"<html></html>", 415, "unsupported_format"),
    "truncated": (image(size=(300, 200), kind="JPEG")[:400], 422, "damaged"),
    "50 megapixels in 1 KB": (png_of_size(10_000, 5_000), 413, "too_many_pixels"),
    "2^31 wide": (png_of_size(2**31 - 1, 1), 413, "too_many_pixels"),
    "no pixels": (png_of_size(0, 0), 422, "damaged"),
    "heic": (b"\0\0\0\x18ftypheic" + bytes(50), 415, "unsupported_format"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_images(client: httpx.Client, name: str) -> None:
    content, status, code = BAD[name]
    body = check_fault(send(client, content), status, code)
    assert " at 0x" not in body["message"]  # no address of an object
    listed = client.post("/v1/predict", files=[("file", (name, content))]).json()["images"]
    assert listed[0]["error"] == body


def odd_images() -> dict[str, tuple[bytes, tuple[int, int]]]:
    plain = Image.new("RGB", (80, 60), COLOUR)
    turned = Image.Exif()
    turned[0x0112] = 6
    back = Image.Exif()
    back[0x0112] = 8
    frames = [Image.new("RGB", (80, 60), colour).quantize(16) for colour in (COLOUR, (0, 0, 255))]
    return {
        "cmyk": (saved(plain.convert("CMYK"), "JPEG", quality=98), (80, 60)),
        "16 bit": (saved(Image.fromarray(np.full((60, 80), 0x6464, np.uint16)), "PNG"), (80, 60)),
        "animated": (saved(frames[0], "GIF", save_all=True, append_images=frames[1:]), (80, 60)),
        "exif 6": (saved(plain, "JPEG", exif=turned, quality=98), (60, 80)),
        "exif 8": (saved(plain, "JPEG", exif=back, quality=98), (60, 80)),
        "webp": (saved(plain, "WEBP", lossless=True), (80, 60)),
        "tiff": (saved(plain, "TIFF"), (80, 60)),
        "bmp": (saved(plain, "BMP"), (80, 60)),
    }


@pytest.mark.parametrize("name", odd_images())
def test_odd_images(client: httpx.Client, name: str) -> None:
    content, size = odd_images()[name]
    colour = (100, 100, 100) if name == "16 bit" else COLOUR
    answer = send(client, content).json()
    assert answer["size"] == list(size)
    assert answer["box"] == pytest.approx(expected_box(colour, size), abs=0.8)


def test_a_damaged_multipart_body(client: httpx.Client) -> None:
    for kind, body in (
        ("multipart/form-data", b"--x\r\n"),
        ("multipart/form-data; boundary=x", b"--y\r\n"),
        ("multipart/form-data; boundary=x", b"--x\r\nContent-Disposition: form-data; name=a\r\n\r\nab"),
        ("multipart/form-data; boundary=x", b"--x--\r\n"),
        ("multipart/form-data; boundary=x", b""),
        (f"multipart/form-data; boundary={'x' * 5000}", b"--x--\r\n"),
    ):
        response = client.post("/v1/predict", content=body, headers={"Content-Type": kind})
        check_fault(response, 422, "wrong_multipart")


def test_a_thousand_parts(client: httpx.Client) -> None:
    response = client.post("/v1/predict", files=[("file", (f"{n}.png", b"x")) for n in range(1000)])
    check_fault(response, 413, "too_many_images")


def test_a_file_name_is_repeated_and_never_opened(client: httpx.Client, tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(image())
    answer = client.post("/v1/predict", files=[("file", (str(secret), b"no image"))]).json()
    assert answer["images"][0]["name"] == str(secret)
    assert answer["images"][0]["box"] is None


@pytest.mark.parametrize("runners", [1, 3])
def test_single_answers_equal_batched_ones(model: Model, runners: int) -> None:
    """Colours at random, so that a row that went astray would show."""
    rng = np.random.default_rng(1)
    contents = [
        image(tuple(rng.integers(0, 256, 3).tolist()), tuple(rng.integers(20, 400, 2).tolist()))
        for _ in range(24)
    ]
    held = HeldModel(model)
    with hosted(held, max_queue=64, deadline=60, runners=runners) as server, server.client() as client:
        single = [send(client, content).json() for content in contents]
        assert set(held.batches) == {1}
        held.go.clear()
        held.entered.clear()
        with ThreadPoolExecutor(24) as pool:
            together = [pool.submit(httpx.post, f"{server.url}/v1/predict", content=content, headers=JPEG, timeout=60,
                                    trust_env=False) for content in contents]  # fmt: skip
            _until(lambda: server.service.engine.ready >= 12)  # beside those that the runners have taken
            held.go.set()
            batched = [each.result().json() for each in together]
    assert max(held.batches) > 2
    for one, other in zip(single, batched, strict=True):
        assert one["size"] == other["size"]
        assert one["box"] == pytest.approx(other["box"], abs=1e-3)
        assert one["margins"]["lower"] == pytest.approx(other["margins"]["lower"], abs=1e-3)
        assert one["presence"] == pytest.approx(other["presence"], abs=1e-5)


def _until(condition: Any) -> None:
    import time

    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)
