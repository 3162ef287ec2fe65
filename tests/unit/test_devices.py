"""Devices and precisions by name."""

from __future__ import annotations

import pytest
import torch

from xscene.errors import SettingsInvalid
from xscene.nn.devices import AUTO, Compute, on_device, torch_device

CPU = torch.device("cpu")


def test_the_automatic_device_is_the_cpu_where_no_gpu_is_offered() -> None:
    assert torch_device(AUTO, offered=("cpu",)) == CPU


@pytest.mark.parametrize("name", ["tpu", "mps", "cuda:99", ""])
def test_a_device_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(SettingsInvalid, match="device: "):
        torch_device(name)


def test_a_precision_that_a_device_lacks_is_refused_by_name() -> None:
    with pytest.raises(SettingsInvalid, match="precision: float16 is not offered on the CPU"):
        Compute(CPU, "float16")
    with pytest.raises(SettingsInvalid, match="precision: 'half' is none of float32, bfloat16, float16"):
        Compute(CPU, "half")


@pytest.mark.parametrize(("precision", "dtype"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)])
def test_products_are_taken_in_the_precision(precision: str, dtype: torch.dtype) -> None:
    left, right = torch.rand(2, 8, 8)
    with Compute(CPU, precision).autocast():
        assert (left @ right).dtype is dtype
    assert (left @ right).dtype is torch.float32


def test_values_on_the_cpu_stay_where_they_are() -> None:
    values = torch.rand(3)
    assert on_device(values, CPU) is values
