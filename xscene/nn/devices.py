"""The device that a service computes on, by its name."""

from __future__ import annotations

import torch

from xscene.errors import SettingsInvalid

AUTO = "auto"


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
