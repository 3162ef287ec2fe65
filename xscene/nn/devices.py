"""What a service computes on, and how exactly, by the names that settings give."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor

from xscene.errors import SettingsInvalid

AUTO = "auto"
FLOAT32 = "float32"
PRECISIONS: Mapping[str, torch.dtype] = {
    FLOAT32: torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
# Half precision of fewer exponent bits is slower on a CPU than float32, and overflows.
GPU_ONLY = frozenset({"float16"})


def torch_device(name: str, *, offered: tuple[str, ...] = ("cpu", "cuda")) -> torch.device:
    """The device; one that is not there is refused.

    `auto` is CUDA where there is a device and `offered` holds it, else the CPU.
    """
    cuda = torch.cuda.is_available()
    try:
        device = torch.device(("cuda" if cuda and "cuda" in offered else "cpu") if name == AUTO else name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda"):
        raise SettingsInvalid(f"device: {name!r} is none of auto, cpu, cuda, cuda:N")
    if device.type == "cuda" and (not cuda or (device.index or 0) >= torch.cuda.device_count()):
        raise SettingsInvalid(f"device: {name} is not there; {torch.cuda.device_count()} CUDA devices are")
    return device


def on_device(values: Tensor, device: torch.device) -> Tensor:
    """Values on a device; to CUDA through pinned memory, so that the copy runs beside the computing."""
    if device.type != "cuda":
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True)


@dataclass(frozen=True)
class Compute:
    """A device, and the precision of the products of frozen networks; all else is float32."""

    device: torch.device
    precision: str = FLOAT32

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise SettingsInvalid(f"precision: {self.precision!r} is none of {', '.join(PRECISIONS)}")
        if self.device.type == "cpu" and self.precision in GPU_ONLY:
            raise SettingsInvalid(f"precision: {self.precision} is not offered on the CPU")

    def autocast(self) -> AbstractContextManager[None]:
        """Where torch takes products in the precision and keeps float32 for what would suffer."""
        dtype = PRECISIONS[self.precision]
        return torch.autocast(self.device.type, dtype=dtype, enabled=dtype is not torch.float32)
