"""The frozen trunk in the fastest correct runtime of this machine.

On a CPU that is OpenVINO where it is installed, in bf16 where the processor has such instructions; otherwise
PyTorch. Which one is decided by what the machine has, never by a stopwatch, so that a seeded run repeats. The
choice is checked on a batch against PyTorch in float32 and refused if it disagrees.
"""

import logging
import warnings
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from solobox.localizer.backbone import Backbone

_LOG = logging.getLogger(__name__)

# Relative L2 error of a feature map against float32. bf16 has 8 bits of mantissa; through some fifty layers
# PyTorch's own bf16 reaches 0.04 on the default trunk.
_TOLERANCE = 0.12

Pixels = npt.NDArray[np.uint8]


class Features(Protocol):
    """A frozen trunk: a batch of square pictures to its feature maps."""

    @property
    def name(self) -> str:
        """Runtime, device and precision in words."""
        ...

    def __call__(self, pixels: Pixels) -> list[Tensor]:
        """(B, size, size, 3) uint8 RGB to float32 maps (B, C, h, w), finest first."""
        ...


@dataclass
class TorchFeatures:
    """The trunk in PyTorch, where its parameters are.

    dtype: that the trunk computes in.
    """

    backbone: Backbone
    dtype: torch.dtype = torch.float32

    @property
    def name(self) -> str:
        """Runtime, device and precision in words."""
        return f"torch {self._device().type} {str(self.dtype).removeprefix('torch.')}"

    def _device(self) -> torch.device:
        return next(self.backbone.parameters()).device

    def __call__(self, pixels: Pixels) -> list[Tensor]:
        """See `Features`."""
        device = self._device()
        batch = torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2).float()
        mixed = self.dtype is not torch.float32
        with torch.inference_mode(), torch.autocast(device.type, self.dtype, enabled=mixed):
            return [feature.float() for feature in self.backbone(batch)]


class OpenVinoFeatures:
    """The trunk compiled by OpenVINO for this CPU.

    precision: ``bf16`` or ``f32``.
    threads: how many it may use; None for PyTorch's number.
    """

    def __init__(self, backbone: Backbone, size: int, precision: str, threads: int | None = None) -> None:
        self._precision = precision
        core = _core()
        options = {
            "INFERENCE_PRECISION_HINT": precision,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads or torch.get_num_threads(),
        }
        self._compiled = core.compile_model(_convert(backbone, size), "CPU", options)

    @property
    def name(self) -> str:
        """Runtime, device and precision in words."""
        return f"openvino cpu {self._precision}"

    def __call__(self, pixels: Pixels) -> list[Tensor]:
        """See `Features`."""
        result = self._compiled(pixels)
        return [torch.from_numpy(result[port]).permute(0, 3, 1, 2) for port in self._compiled.outputs]


class _Trunk(nn.Module):
    """What is compiled: raw pixels as they lie in memory, so that nobody normalises them twice."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        maps = self.backbone(pixels.permute(0, 3, 1, 2).float())
        # Channels last is how the runtime holds them anyway, and how they are kept.
        return tuple(feature.permute(0, 2, 3, 1) for feature in maps)


def _core() -> Any:
    import openvino

    return openvino.Core()


def _convert(backbone: Backbone, size: int) -> Any:
    """An OpenVINO model of the trunk.

    Through the frontend's own classes rather than `openvino.convert_model`, because that function reports its
    use to the vendor.
    """
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    example = torch.zeros(1, size, size, 3, dtype=torch.uint8)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter(
            "ignore"
        )  # tracing warns of Python branches on shapes; the shapes are fixed here
        traced = torch.jit.trace(_Trunk(backbone), example, check_trace=False)  # type: ignore[no-untyped-call]
        decoder = TorchScriptPythonDecoder(traced)  # the frontend keeps no reference to it
        frontend = FrontEndManager().load_by_framework("pytorch")
        model = frontend.convert(frontend.load(decoder))
    model.reshape([-1, size, size, 3])
    return model


def has_fast_bf16() -> bool:
    """Whether this CPU has instructions for bfloat16; without them it is emulated and slower than float32."""
    found = torch.cpu.get_capabilities()
    return bool(found.get("avx512_bf16") or found.get("amx_bf16"))


def _has_bf16_openvino() -> bool:
    return "BF16" in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _openvino_is_installed() -> bool:
    try:
        import openvino  # noqa: F401
    except ImportError:
        return False
    return True


def fastest(backbone: Backbone, size: int) -> Features:
    """The fastest runtime for a frozen `backbone` on squares of `size` pixels that computes it correctly."""
    device = next(backbone.parameters()).device
    if device.type == "cuda":
        return TorchFeatures(backbone, torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32)
    reference = TorchFeatures(backbone)
    if device.type != "cpu" or not _openvino_is_installed():
        return reference
    rng = np.random.default_rng(0)
    # Smooth random pictures: white noise is nothing that a trunk was made for.
    coarse = torch.from_numpy(rng.uniform(0, 255, (2, 3, 8, 8))).float()
    smooth = nn.functional.interpolate(coarse, size=(size, size), mode="bilinear")
    probe = smooth.round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
    wanted = reference(probe)
    for precision in ("bf16", "f32") if _has_bf16_openvino() else ("f32",):
        try:
            candidate = OpenVinoFeatures(backbone, size, precision)
            worst = max(
                float((a - b).norm() / b.norm().clamp(min=1e-6))
                for a, b in zip(candidate(probe), wanted, strict=True)
            )
        except RuntimeError as error:
            _LOG.warning("OpenVINO cannot run this backbone (%s); using PyTorch", error)
            return reference
        if worst <= _TOLERANCE:
            return candidate
        _LOG.warning("OpenVINO in %s is off by %.0f%% on this backbone; not used", precision, 100 * worst)
    return reference
