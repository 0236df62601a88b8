"""The frozen backbone in the fastest correct runtime of this machine.

On a CPU that is OpenVINO where it is installed, in bf16 where the processor has such instructions; otherwise
PyTorch. The hardware decides, not a measured time, so that a seeded run repeats. The choice is compared with PyTorch in
float32 on a batch and rejected if it disagrees.
"""

import logging
import threading
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from solobox.config.architecture import Size
from solobox.model.backbone import Backbone
from solobox.utils.concurrency import openvino_core
from solobox.utils.signals import signals_held

_LOG = logging.getLogger(__name__)

# Relative L2 error of a feature map against float32. bf16 has 8 bits of mantissa; through some fifty layers
# PyTorch's own bf16 reaches 0.04 on the default backbone.
_TOLERANCE = 0.12

# The same where both compute in float32.
_FLOAT32_TOLERANCE = 1e-3

Pixels = npt.NDArray[np.uint8]


class Features(Protocol):
    """A frozen backbone: a batch of images of one size to its feature maps. Any thread may call it."""

    @property
    def name(self) -> str:
        """Runtime, device and precision in words."""
        ...

    def __call__(self, pixels: Pixels) -> list[Tensor]:
        """(B, 3, H, W) uint8 RGB to maps (B, C, h, w), channels last, finest first; see `fastest` for their type."""
        ...


@dataclass
class TorchFeatures:
    """The backbone in PyTorch, where its parameters are. One call at a time, where a call uses all processors or a GPU.

    dtype: of the computation. output_dtype: of the maps.
    """

    backbone: Backbone
    dtype: torch.dtype = torch.float32
    output_dtype: torch.dtype = torch.bfloat16
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def name(self) -> str:
        """Runtime, device and precision in words."""
        return f"torch {self._device().type} {str(self.dtype).removeprefix('torch.')}"

    def _device(self) -> torch.device:
        return next(self.backbone.parameters()).device

    def __call__(self, pixels: Pixels) -> list[Tensor]:
        """See `Features`."""
        device = self._device()
        batch = torch.from_numpy(pixels).to(device).float()
        mixed = self.dtype is not torch.float32
        alone = device.type == "cpu" and torch.get_num_threads() == 1
        with (
            nullcontext() if alone else self._lock,
            torch.inference_mode(),
            torch.autocast(device.type, self.dtype, enabled=mixed),
        ):
            maps = self.backbone(batch)
        return [feature.to(self.output_dtype, memory_format=torch.channels_last) for feature in maps]


class OpenVinoFeatures:
    """The backbone compiled by OpenVINO for this CPU.

    Each image goes alone through a stream of one thread. So its maps do not depend on the other images: where the
    processor has matrix tiles (AMX), bf16 results differ with the size of the batch. And no thread waits for another
    within a layer, which matters when the processors decode images at the same time.

    precision: ``bf16`` or ``f32``. output_dtype: of the maps, bfloat16 or float32.
    """

    def __init__(
        self, backbone: Backbone, size: int, precision: str, output_dtype: torch.dtype = torch.bfloat16
    ) -> None:
        self._output_dtype = output_dtype
        self.name = f"openvino cpu {precision}"
        threads = torch.get_num_threads()
        options = {
            "INFERENCE_PRECISION_HINT": precision,
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": str(threads),
            "ENABLE_CPU_PINNING": False,  # decoding threads share these processors
        }
        with signals_held():
            model = _convert(backbone, size, output_dtype)
            self._compiled = openvino_core().compile_model(model, "CPU", options)

    def __call__(self, pixels: Pixels) -> list[Tensor]:
        """See `Features`."""
        requests = []
        for row in range(len(pixels)):
            request = self._compiled.create_infer_request()
            request.start_async([np.ascontiguousarray(pixels[row : row + 1])])
            requests.append(request)
        for request in requests:
            request.wait()
        return [self._joined(requests, index) for index in range(len(self._compiled.outputs))]

    def _joined(self, requests: Sequence[Any], index: int) -> Tensor:
        """One output for all images. NumPy has no bfloat16, so it sees 16-bit integers.

        NumPy copies, because PyTorch's threads would compete with the streams for the processors.
        """
        dtype = np.uint16 if self._output_dtype is torch.bfloat16 else np.float32
        bits = np.concatenate([request.get_output_tensor(index).data.view(dtype) for request in requests])
        return torch.from_numpy(bits).view(self._output_dtype).permute(0, 3, 1, 2)


class _CompiledBackbone(nn.Module):
    """The module that OpenVINO compiles: from raw pixels to maps, channels last."""

    def __init__(self, backbone: Backbone, output_dtype: torch.dtype) -> None:
        super().__init__()
        self.backbone, self.output_dtype = backbone, output_dtype

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        maps = self.backbone(pixels.float())
        # The runtime and the cache hold them channels last.
        return tuple(feature.permute(0, 2, 3, 1).to(self.output_dtype) for feature in maps)


def _convert(backbone: Backbone, size: int, output_dtype: torch.dtype) -> Any:
    """An OpenVINO model of the backbone.

    Through the frontend's own classes rather than `openvino.convert_model`, because that function reports its
    use to the vendor.
    """
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    example = torch.zeros(1, 3, size, size, dtype=torch.uint8)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter(
            "ignore"
        )  # tracing warns of Python branches on shapes; the shapes are fixed here
        traced = torch.jit.trace(_CompiledBackbone(backbone, output_dtype), example, check_trace=False)  # type: ignore[no-untyped-call]
        decoder = TorchScriptPythonDecoder(traced)  # the frontend keeps no reference to it
        frontend = FrontEndManager().load_by_framework("pytorch")
        model = frontend.convert(frontend.load(decoder))
    model.reshape([1, 3, size, size])
    return model


def has_fast_bf16() -> bool:
    """Whether this CPU has instructions for bfloat16; without them it is emulated and slower than float32."""
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def _has_bf16_openvino() -> bool:
    with signals_held():  # this loads the plugin
        return "BF16" in openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _openvino_is_installed() -> bool:
    try:
        with signals_held():
            import openvino  # noqa: F401
    except ImportError:
        return False
    return True


def fastest(backbone: Backbone, size: Size, *, exact: bool = False, bf16: bool = True) -> Features:
    """The fastest runtime for a frozen `backbone` on squares of `size` pixels that computes it correctly.

    For images of native size that is PyTorch: OpenVINO's is compiled for one size.

    exact: compute in float32 and return float32, as an exported model does. Otherwise maps are bfloat16 whatever the
        backbone computes in: they take half the memory.
    bf16: whether it may compute in bfloat16 where the hardware is faster in it; never if `exact`.
    """
    bf16 = bf16 and not exact
    device = next(backbone.parameters()).device
    output_dtype = torch.float32 if exact else torch.bfloat16
    if device.type == "cuda":
        bf16 = bf16 and torch.cuda.is_bf16_supported()
        return TorchFeatures(backbone, torch.bfloat16 if bf16 else torch.float32, output_dtype)
    reference = TorchFeatures(backbone, output_dtype=output_dtype)
    if device.type != "cpu" or isinstance(size, str) or not _openvino_is_installed():
        return reference
    rng = np.random.default_rng(0)
    # Smooth random images: backbones are not made for white noise.
    coarse_grid = torch.from_numpy(rng.uniform(0, 255, (2, 3, 8, 8))).float()
    smooth = nn.functional.interpolate(coarse_grid, size=(size, size), mode="bilinear")
    probe = smooth.round().to(torch.uint8).numpy()
    expected = reference(probe)
    for precision in ("bf16", "f32") if bf16 and _has_bf16_openvino() else ("f32",):
        try:
            candidate = OpenVinoFeatures(backbone, size, precision, output_dtype)
            worst = max(
                float((a.float() - b.float()).norm() / b.float().norm().clamp(min=1e-6))
                for a, b in zip(candidate(probe), expected, strict=True)
            )
        except RuntimeError as error:
            _LOG.warning("OpenVINO cannot run this backbone (%s); using PyTorch", error)
            return reference
        if worst <= (_TOLERANCE if not exact else _FLOAT32_TOLERANCE):
            return candidate
        _LOG.warning("OpenVINO in %s is off by %.0f%% on this backbone; not used", precision, 100 * worst)
    return reference
