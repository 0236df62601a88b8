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

from solobox.predict.onnx_model import OnnxModel

from server_in_thread import BlockedModel, Hosted, hosted  # isort: skip
from colour_model import expected_box, image, write_model  # isort: skip

COLOUR = (200, 100, 50)
JPEG = {"Content-Type": "image/jpeg"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> OnnxModel:
    return OnnxModel.load(write_model(tmp_path_factory.mktemp("model") / "model.onnx"), threads=1)


@pytest.fixture(scope="module")
def server(model: OnnxModel) -> Iterator[Hosted]:
    with hosted(model, max_bytes=500_000) as started:
        yield started


@pytest.fixture
def client(server: Hosted) -> Iterator[httpx.Client]:
    with server.client() as opened:
        yield opened


def send(client: httpx.Client, content: bytes, query: str = "", kind: str = "image/jpeg") -> httpx.Response:
    return client.post(f"/v1/predict{query}", content=content, headers={"Content-Type": kind})


def check_error(response: httpx.Response, status: int, code: str) -> dict[str, str]:
    assert response.status_code == status, response.text
    body: dict[str, str] = response.json()
    assert body["code"] == code
    assert all(body[key] for key in ("message", "hint"))
    assert set(body) <= {"code", "message", "hint", "error"}
    assert "Traceback" not in response.text
    return body


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_one_image(client: httpx.Client, model: OnnxModel) -> None:
    content = image(COLOUR)
    answer = send(client, content).json()
    expected = model.predict(content)
    assert answer["size"] == [80, 60]
    assert answer["box"] == pytest.approx(expected.box, abs=1e-3)
    assert answer["box"] == pytest.approx(expected_box(COLOUR, (80, 60)), abs=2e-3)
    assert answer["margins"]["level"] == 0.9
    assert answer["margins"]["lower"] == pytest.approx(expected.lower, abs=1e-3)
    assert answer["margins"]["upper"] == pytest.approx(expected.upper, abs=1e-3)
    assert answer["presence"] == pytest.approx(expected.presence, abs=1e-5)
    assert answer["familiarity"] == pytest.approx(expected.familiarity, abs=1e-5)
    assert answer["outer"] is None
    assert answer["error"] is None


@pytest.mark.parametrize(
    "kind",
    ["application/octet-stream", "image/png", "IMAGE/JPEG; x=y", "application/x-www-form-urlencoded", None],
)
def test_the_type_is_only_looked_at_for_its_kind(client: httpx.Client, kind: str | None) -> None:
    headers = {} if kind is None else {"Content-Type": kind}
    assert client.post("/v1/predict", content=image(), headers=headers).status_code == 200


def test_a_form_of_text_is_no_image(client: httpx.Client) -> None:
    response = send(client, b"file=%40photo.jpg", kind="application/x-www-form-urlencoded")
    check_error(response, 415, "unsupported-media-type")


def test_levels_outer_and_presence(client: httpx.Client, model: OnnxModel) -> None:
    content = image(COLOUR)
    wide = send(client, content, "?margins=0.99").json()
    expected = model.predict(content, margins=0.99)
    assert wide["margins"]["lower"] == pytest.approx(expected.lower, abs=1e-3)
    outer = send(client, content, "?outer=0.8").json()
    expected = model.predict(content, outer=0.8)
    assert outer["outer"]["box"] == pytest.approx(expected.outer, abs=1e-3)
    assert outer["margins"] is None
    assert (outer["outer"]["level"], outer["outer"]["max_cut"]) == (0.8, None)
    cut = send(client, content, "?max_cut=0.02").json()
    expected = model.predict(content, max_cut=0.02)
    assert cut["outer"]["box"] == pytest.approx(expected.outer, abs=1e-3)
    assert (cut["outer"]["level"], cut["outer"]["max_cut"], cut["margins"]) == (None, 0.02, None)
    assert client.get("/v1/model").json()["max_cut"] == [0.005, 0.01, 0.02, 0.05, 0.1, 0.2]
    absent = send(client, content, "?min_presence=0.9").json()
    assert absent["box"] is None
    assert absent["margins"] is None
    assert absent["presence"] == pytest.approx(200 / 255, abs=1e-5)
    assert send(client, content, "?min_presence=0.5").json()["box"]


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("?margin=0.9", "invalid-parameter"),
        ("?name=x", "invalid-parameter"),
        ("?margins=much", "invalid-parameter"),
        ("?min_presence=2", "invalid-parameter"),
        ("?margins=0.9&outer=0.9", "options-conflict"),
        ("?margins=nan", "out-of-range"),
        ("?margins=0.2", "out-of-range"),
        ("?margins=0.999", "margins-need-more-images"),
    ],
)
def test_wrong_parameters(client: httpx.Client, query: str, code: str) -> None:
    check_error(send(client, image(), query), 422, code)


def test_a_misspelled_parameter_gets_the_closest_name(client: httpx.Client) -> None:
    assert send(client, image(), "?margin=0.9").json()["hint"] == "Is it margins?"


def test_of_a_repeated_parameter_the_last_one_counts(client: httpx.Client) -> None:
    assert send(client, image(), "?margins=0.9&margins=0.5").json()["margins"]["level"] == 0.5


def test_a_model_without_figures(tmp_path: Path) -> None:
    bare = OnnxModel.load(write_model(tmp_path / "bare.onnx", calibrated=False, figures=False))
    with hosted(bare) as server, server.client() as client:
        answer = send(client, image()).json()
        assert answer["box"]
        assert [answer[key] for key in ("margins", "outer", "presence", "familiarity")] == [None] * 4
        check_error(send(client, image(), "?margins=0.9"), 422, "no-margins")
        check_error(send(client, image(), "?min_presence=0.9"), 422, "no-presence")
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
    assert answers[1]["error"]["code"] == "image-unsupported-format"
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
    "empty": (b"", 422, "image-empty"),
    "text": (b"this is a text, whatever its name says", 415, "image-unsupported-format"),
    "html": (b"<html></html>", 415, "image-unsupported-format"),
    "truncated": (image(size=(300, 200), kind="JPEG")[:400], 422, "image-damaged"),
    "50 megapixels in 1 KB": (png_of_size(10_000, 5_000), 413, "image-too-many-pixels"),
    "2^31 wide": (png_of_size(2**31 - 1, 1), 413, "image-too-many-pixels"),
    "no pixels": (png_of_size(0, 0), 422, "image-damaged"),
    "jxl": (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(50), 415, "image-unsupported-format"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_images(client: httpx.Client, name: str) -> None:
    content, status, code = BAD[name]
    body = check_error(send(client, content), status, code)
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
        check_error(response, 422, "invalid-form")


def test_a_form_whose_end_is_missing_loses_no_image_unnoticed(client: httpx.Client) -> None:
    part = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n' + image()
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    whole = client.post("/v1/predict", content=part + b"\r\n" + part + b"\r\n--x--\r\n", headers=headers)
    assert len(whole.json()["images"]) == 2
    for body in (part + b"\r\n" + part, part + b"\r\n" + part[:-20], part + b"\r\n--x"):
        check_error(client.post("/v1/predict", content=body, headers=headers), 422, "invalid-form")


def test_a_form_field_that_is_no_file(client: httpx.Client) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=x; charset=punycode"}
    body = b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\nhello\r\n--x--\r\n'
    check_error(client.post("/v1/predict", content=body, headers=headers), 422, "invalid-form")


def test_a_form_is_never_written_to_disk(model: OnnxModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """The container has a read-only file system."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError("read-only file system")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    rng = np.random.default_rng(0)
    noise = saved(Image.fromarray(rng.integers(0, 256, (900, 1200, 3), np.uint8)), "PNG")
    assert len(noise) > 3_000_000  # Starlette's default spools files over 1 MB
    with hosted(model) as server, server.client() as client:
        answer = client.post("/v1/predict", files=[("file", ("a.png", noise))] * 2).json()
    assert [each["size"] for each in answer["images"]] == [[1200, 900]] * 2


def test_a_thousand_parts(client: httpx.Client) -> None:
    response = client.post("/v1/predict", files=[("file", (f"{n}.png", b"x")) for n in range(1000)])
    check_error(response, 413, "too-many-images")


def test_a_file_name_is_repeated_and_never_opened(client: httpx.Client, tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(image())
    answer = client.post("/v1/predict", files=[("file", (str(secret), b"no image"))]).json()
    assert answer["images"][0]["name"] == str(secret)
    assert answer["images"][0]["box"] is None


@pytest.mark.parametrize("workers", [1, 3])
def test_single_answers_equal_batched_ones(model: OnnxModel, workers: int) -> None:
    """Colours at random, so that a row that went astray would show."""
    rng = np.random.default_rng(1)
    contents = [
        image(tuple(rng.integers(0, 256, 3).tolist()), tuple(rng.integers(20, 400, 2).tolist()))
        for _ in range(24)
    ]
    held = BlockedModel(model)
    with hosted(held, max_queue=64, deadline=60, workers=workers) as server, server.client() as client:
        single = [send(client, content).json() for content in contents]
        assert set(held.batches) == {1}
        held.go.clear()
        held.entered.clear()
        with ThreadPoolExecutor(24) as pool:
            together = [pool.submit(httpx.post, f"{server.url}/v1/predict", content=content, headers=JPEG, timeout=60,
                                    trust_env=False) for content in contents]  # fmt: skip
            _until(lambda: server.context.batcher.queued >= 12)  # beside those that the workers have taken
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
