"""``solobox serve``: a model behind HTTP."""

import dataclasses
import logging
import os
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from solobox.cli.console import console
from solobox.errors import ConfigError
from solobox.serve.settings import KEY_VARIABLE, Settings, checked_key
from solobox.utils.concurrency import processors

_DEFAULT = Settings()


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
    without_key: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Answer with a box for each image that is sent, and show a page to try it.

    POST an image to /v1/predict, open / in a browser, or speak the Open Inference Protocol to /v2. Where the
    environment has SOLOBOX_API_KEY, requests must carry it. Ends on SIGTERM or Ctrl+C, after what it has begun.

    Parameters
    ----------
    model
        An exported model, the .onnx file of `solobox export`.
    host
        The address to listen at. Any but this machine's own wants an API key.
    port
        The port; 0 for any that is free.
    threads
        Threads that work on one image. With 1, as many images are worked on at once as there are processors,
        which answers the most; 0 for all of them on one image after the other, which answers one the soonest.
    max_megabytes
        Largest body of a request, in millions of bytes.
    max_megapixels
        Largest image, in millions of pixels.
    queue
        Images that may wait or be worked on; more are sent away with 429.
    deadline
        Seconds to an answer, or it is 504.
    drain
        Seconds to the exit after SIGTERM, at most.
    without_key
        Let others in without a key: for a server behind something else that keeps strangers out.
    """
    settings = dataclasses.replace(
        _DEFAULT,
        max_bytes=round(max_megabytes * 1e6),
        max_pixels=round(max_megapixels * 1e6),
        max_queue=queue,
        max_images=min(_DEFAULT.max_images, max(queue, 1)),
        deadline=deadline,
        drain=drain,
        settle=min(_DEFAULT.settle, drain / 4),
        api_key=checked_key(os.environ.get(KEY_VARIABLE)),
    )
    if without_key and settings.api_key is not None:
        raise ConfigError(f"--without-key and {KEY_VARIABLE} contradict each other: give up one of them")
    from solobox.predict.onnx_model import Model
    from solobox.serve.app import build
    from solobox.serve.server import Server, listen
    from solobox.serve.service import Service

    if threads < 0:
        raise ConfigError(f"--threads is 0 or more, not {threads}")
    loaded = Model.load(model, threads=threads)
    runners = max(1, processors() // threads) if threads else 1
    listener = listen(host, port, open_to_all=without_key or settings.api_key is not None)
    logging.basicConfig(format="%(asctime)s %(name)s %(levelname)s %(message)s")
    service = Service.of(loaded, model.stem, settings, runners=runners)
    server = Server(build(service), settings, service.state)
    name, number = listener.getsockname()[:2]
    address = f"http://[{name}]:{number}" if ":" in name else f"http://{name}:{number}"
    _say(f"serving {model} at {address} (a page to try it, and /v1/predict; Ctrl+C ends it)")
    _say(
        f"requests need the key in {KEY_VARIABLE}"
        if settings.api_key is not None
        else "no API key is asked for" + (", and others can reach this" if without_key else "")
    )
    server.run(sockets=[listener])
    state = service.state
    _say(f"stopped: {state.begun:,} requests begun, {state.answered:,} answered")


def _say(line: str) -> None:
    console.print(line, highlight=False, markup=False, soft_wrap=True)
