"""Choices that commands offer, without what implements them: a command says its first line before it imports that."""

from typing import Literal, TypeAlias

Keep: TypeAlias = Literal["largest", "first"]
"""Which box of an image with several."""

RuntimeName: TypeAlias = Literal["onnxruntime", "openvino"]
"""What runs an exported model."""
