"""``solobox serve``: a model behind HTTP."""

import dataclasses
import logging
import os
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from solobox.cli.console import Flag, say, say_loading
from solobox.errors import ConfigError
from solobox.serve.settings import KEY_VARIABLE, ServerSettings, parse_api_key
from solobox.utils.concurrency import processors

_DEFAULT = ServerSettings()


def serve(
    model: Annotated[Path, Parameter(name="MODEL")],
    /,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    threads: int = 1,
    max_megabytes: float = _DEFAULT.max_bytes / 1e6,
    max_megapixels: float = _DEFAULT.max_pixels / 1e6,
    queue: int = _DEFAULT.max_queue,
    deadline: float = _DEFAULT.deadline,
    drain: float = _DEFAULT.drain,
    allow_host: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    allow_origin: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    without_key: Annotated[bool, Flag] = False,
    label_studio: str | None = None,
) -> None:
    """Serve an exported model over HTTP, with a page to try it.

    POST an image to /v1/predict, open / in a browser, or use the Open Inference Protocol at /v2. Where the
    environment has SOLOBOX_API_KEY, requests must carry it. SIGTERM or Ctrl-C stops it after the requests in work.

    Parameters
    ----------
    model
        An exported model, the .onnx file of `solobox export`, or hf:OWNER/NAME, one on the Hugging Face Hub.
    host
        The address to listen at. Any that other machines reach requires an API key.
    port
        The port; 0 for any free one.
    threads
        Threads for one image. 1 processes as many images at once as there are processors: the highest
        throughput. 0 uses all processors for one image after the other: the lowest latency.
    max_megabytes
        Largest body of a request, in millions of bytes.
    max_megapixels
        Largest image, in millions of pixels.
    queue
        Images that may wait or be in work; further ones get status 429.
    deadline
        Seconds for a response; then it is status 504.
    drain
        Most seconds from SIGTERM to the exit.
    allow_host
        A further name under which clients reach the server, such as model.example.org; * for any. Requests to other
        names are refused.
    allow_origin
        A site whose pages may use the server, such as https://example.org.
    without_key
        Accept other machines without a key: for a server behind a proxy that authenticates clients.
    label_studio
        Also be an ML backend of Label Studio, whose address this is, such as http://localhost:8080. Images are fetched
        from there alone, with the token in LABEL_STUDIO_API_KEY.
    """
    settings = dataclasses.replace(
        _DEFAULT,
        max_bytes=round(max_megabytes * 1e6),
        max_pixels=round(max_megapixels * 1e6),
        max_queue=queue,
        max_images=min(_DEFAULT.max_images, max(queue, 1)),
        deadline=deadline,
        drain=drain,
        drain_delay=min(_DEFAULT.drain_delay, drain / 4),
        allow_hosts=allow_host,
        allow_origins=tuple(origin.rstrip("/").lower() for origin in allow_origin),
        api_key=parse_api_key(os.environ.get(KEY_VARIABLE)),
    )
    if without_key and settings.api_key is not None:
        raise ConfigError(
            f"--without-key and {KEY_VARIABLE} contradict each other: use one of them",
            code="options-conflict",
        )
    say_loading(model)
    from solobox.hub.download import local_model
    from solobox.predict.onnx_model import OnnxModel
    from solobox.serve.app import build_app
    from solobox.serve.hosts import HostPolicy
    from solobox.serve.label_studio_images import TOKEN_VARIABLE, LabelStudioImages
    from solobox.serve.server import Server, end_if_busy, listen
    from solobox.serve.state import ServerContext

    if threads < 0:
        raise ConfigError(f"--threads is 0 or more, not {threads}", code="out-of-range")
    HostPolicy(
        settings.bound, settings.allow_hosts, settings.allow_origins
    )  # refused before the port is opened
    images = None
    if label_studio is not None:
        images = LabelStudioImages(label_studio, os.environ.get(TOKEN_VARIABLE) or None, settings)
    loaded = OnnxModel.load(local_model(model, "onnx"), threads=threads)
    workers = max(1, processors() // threads) if threads else 1
    listener = listen(host, port, public=without_key or settings.api_key is not None)
    settings = dataclasses.replace(settings, bound=(host, str(listener.getsockname()[0])))
    logging.basicConfig(format="%(asctime)s %(name)s %(levelname)s %(message)s")
    context = ServerContext.create(loaded, model.stem, settings, workers=workers)
    server = Server(build_app(context, images), settings, context.state)
    name, number = listener.getsockname()[:2]
    address = f"http://[{name}]:{number}" if ":" in name else f"http://{name}:{number}"
    say(f"serving {model} at {address} (a page to try it, and /v1/predict; Ctrl-C stops it)")
    say(
        f"requests need the key in {KEY_VARIABLE}"
        if settings.api_key is not None
        else "no API key is required" + (", and other machines can connect" if without_key else "")
    )
    if label_studio is not None:
        say(f"Label Studio, {label_studio}: connect this address as a model of a project")
    server.run(sockets=[listener])
    state = context.state
    say(f"stopped: {state.received:,} requests received, {state.answered:,} answered")
    end_if_busy()
