"""Coordinates and kernel maps: keys, levels, neighbours, caching, and what is refused."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from encoders_3d.sparse.coordinates import CoordinateManager
from encoders_3d.sparse.keys import KeyGrid
from encoders_3d.sparse.neighbours import Kernel
from encoders_3d.sparse.tensor import SparseTensor
from encoders_3d.sparse.torch_engine import TorchEngine
from tests.golden.sparse_cases import clouds
from tests.memory import growth_below
from tests.unit.sparse_reference import ENGINES, Voxel, engine_of, floored, meetings, voxels
from xscene.errors import InvalidInput, LimitExceeded, Unsupported

ANYWHERE = st.integers(-30_000, 30_000)
VOXELS = st.lists(st.tuples(st.integers(0, 3), ANYWHERE, ANYWHERE, ANYWHERE), min_size=1, max_size=30)
KERNELS = [
    Kernel(3),
    Kernel(5),
    Kernel(2),
    Kernel(4),
    Kernel(3, dilation=2),
    Kernel(1),
    Kernel(3, whole_voxel=True),
]


@settings(max_examples=50, deadline=None)
@given(given_voxels=VOXELS, stride=st.integers(1, 200))
def test_keys_keep_order_come_back_and_floor_as_integers_do(given_voxels: list[Voxel], stride: int) -> None:
    coordinates = torch.tensor(given_voxels)
    grid = KeyGrid.around(coordinates, 1024)
    keys = grid.pack(coordinates)
    assert voxels(grid.unpack(keys)) == given_voxels
    assert torch.argsort(keys, stable=True).tolist() == sorted(
        range(len(keys)), key=lambda row: given_voxels[row]
    )
    assert voxels(grid.unpack(grid.floor(keys, stride))) == [floored(voxel, stride) for voxel in given_voxels]


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("factor", [1, 2, 3])
@pytest.mark.parametrize("engine", ENGINES)
def test_the_neighbours_are_those_of_the_loop(engine: str, factor: int, kernel: Kernel) -> None:
    maps = CoordinateManager(clouds(300, extent=5), engine_of(engine))
    coarse = maps.coarser(1, factor)
    found = maps.kernel_map(1, factor, kernel)
    sources, targets = voxels(maps.level(1).coordinates_N4), voxels(coarse.coordinates_N4)
    wanted = meetings(sources, targets, kernel.size, kernel.dilation, centred=kernel.centred)
    assert found.num_offsets == len(wanted)
    for offset, pairs in enumerate(wanted):
        mine = list(zip(*(rows.tolist() for rows in found.rows(offset)), strict=True))
        assert mine == sorted(pairs, key=lambda pair: pair[1])


def test_the_table_holds_the_pairs_and_a_row_past_the_end_for_none() -> None:
    maps = CoordinateManager(clouds(40), TorchEngine())
    maps.coarser(1, 2)
    for found in (maps.kernel_map(1, 2, Kernel(3)), maps.kernel_map(2, 1, Kernel(3))):
        table = torch.full((found.num_out, 27), found.num_in)
        for offset in range(27):
            for source, target in zip(*(rows.tolist() for rows in found.rows(offset)), strict=True):
                table[target, offset] = source
        assert torch.equal(found.table_MK.long(), table)


def test_a_map_is_found_once_and_serves_both_directions() -> None:
    maps = CoordinateManager(clouds(40), TorchEngine())
    maps.coarser(1, 2)
    down, up = maps.kernel_map(1, 2, Kernel(2)), maps.kernel_map(2, 1, Kernel(2))
    assert up.neighbours is down.neighbours is maps.kernel_map(1, 2, Kernel(2)).neighbours
    assert [rows.tolist() for rows in up.rows(3)] == [rows.tolist() for rows in reversed(down.rows(3))]


def test_half_of_the_pairs_of_a_centred_kernel_are_kept_once() -> None:
    found = CoordinateManager(clouds(300), TorchEngine()).kernel_map(1, 1, Kernel(3))
    begin, end, _ = found.ranges_K3.T
    met = int((end - begin).sum())
    assert found.neighbours.pairs_2P.shape[1] == (met - 300) // 2 + 300


@pytest.mark.parametrize(
    ("coordinates", "message"),
    [
        (torch.zeros(0, 4, dtype=torch.int32), "coordinates: is empty, at least one point is needed"),
        (torch.zeros(2, 3, dtype=torch.int32), r"coordinates: shape \[2, 3\], needs \[N, 4\]"),
        (torch.zeros(1, 4), "coordinates: dtype torch.float32, needs int32 or int64"),
        (torch.tensor([[-1, 0, 0, 0]]), "coordinates: cloud -1, needs 0 or above"),
        (torch.tensor([[0, 1, 1, 1], [2, 1, 1, 1]]), "coordinates: cloud 1 of 3 has no points"),
        (torch.tensor([[0, 1, 1, 1]] * 3), "coordinates: 2 of 3 rows repeat another row's voxel"),
    ],
)
def test_coordinates_that_make_no_batch_are_refused_by_name(coordinates: torch.Tensor, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        SparseTensor.of(torch.zeros(len(coordinates), 2), coordinates, TorchEngine())


@pytest.mark.parametrize("clouds_given", [[2**22], [0, 2**25], [0, 1, 1, 3, 2**25]])
def test_a_wrong_cloud_is_refused_without_memory_for_those_before_it(clouds_given: list[int]) -> None:
    coordinates = torch.zeros(len(clouds_given), 4, dtype=torch.int32)
    coordinates[:, 0] = torch.tensor(clouds_given)
    coordinates[:, 3] = torch.arange(len(clouds_given))
    gap = next(cloud for cloud in range(len(clouds_given)) if cloud not in clouds_given)
    with growth_below(16 << 20):
        with pytest.raises(InvalidInput, match=f"cloud {gap} of {clouds_given[-1] + 1} has no points"):
            CoordinateManager(coordinates, TorchEngine())


def test_an_extent_whose_keys_do_not_fit_is_refused_with_its_bits() -> None:
    far = torch.tensor([[0, -(2**30), -(2**30), 0], [0, 2**30, 2**30, 0]])
    with pytest.raises(LimitExceeded, match=r"coordinates: 76 bits for 1 clouds of .* the limit is 62"):
        CoordinateManager(far, TorchEngine())


def test_a_coordinate_that_int32_cannot_hold_is_refused() -> None:
    with pytest.raises(LimitExceeded, match="coordinates: 2147484671 voxels from the origin"):
        CoordinateManager(torch.tensor([[0, 2**31 - 1, 0, 0]]), TorchEngine())


def test_int32_coordinates_of_a_wide_extent_do_not_overflow() -> None:
    far = torch.tensor([[0, -(2**31) + 2000, 0, 0], [0, 2**31 - 2000, 0, 0]], dtype=torch.int32)
    assert torch.equal(CoordinateManager(far, TorchEngine()).level(1).coordinates_N4, far)


def test_a_kernel_that_looks_past_the_margin_is_refused() -> None:
    maps = CoordinateManager(clouds(20), TorchEngine(), reach_voxels=8)
    assert maps.kernel_map(1, 1, Kernel(7)).num_out == 20
    with pytest.raises(LimitExceeded, match="kernel: 9 voxels of reach, the limit is 8"):
        maps.kernel_map(1, 1, Kernel(5, dilation=4))
    with pytest.raises(InvalidInput, match="stride: 16, the limit is 8 voxels"):
        maps.coarser(1, 16)


def test_a_stride_without_coordinates_is_refused_with_those_known() -> None:
    maps = CoordinateManager(clouds(20), TorchEngine())
    maps.coarser(1, 2)
    with pytest.raises(InvalidInput, match="stride: 4 has no coordinates; known strides: 1, 2"):
        maps.level(4)


@pytest.mark.parametrize(("rule", "wanted"), [("first", [1.0, 5.0]), ("mean", [2.5, 5.0])])
def test_duplicates_are_removed_by_the_rule_asked_for(rule: str, wanted: list[float]) -> None:
    coordinates = torch.tensor([[0, 0, 0, 1], [0, 0, 0, 2], [0, 0, 0, 1]])
    features = torch.tensor([[1.0], [5.0], [4.0]], requires_grad=True)
    x = SparseTensor.of(features, coordinates, TorchEngine(), duplicates=rule)
    assert x.features.flatten().tolist() == wanted
    assert x.maps.row_of_N.tolist() == [0, 1, 0]
    x.features.sum().backward()
    assert features.grad.flatten().tolist() == ([1.0, 1.0, 0.0] if rule == "first" else [0.5, 1.0, 0.5])


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (torch.zeros(3), r"features: shape \[3\], needs \[N, C\]"),
        (torch.zeros(2, 2), "features: 2 rows for 3 coordinates"),
    ],
)
def test_features_that_do_not_fit_are_the_callers_fault(features: torch.Tensor, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        SparseTensor.of(features, clouds(3), TorchEngine())


def test_a_precision_that_the_engine_lacks_is_refused_by_name() -> None:
    with pytest.raises(
        Unsupported, match="engine torch offers float32, bfloat16, float64 on cpu, cuda, not float16"
    ):
        SparseTensor.of(torch.zeros(3, 2, dtype=torch.float16), clouds(3), TorchEngine())


def test_tensors_of_other_voxels_are_not_added() -> None:
    one, other = (SparseTensor.of(torch.zeros(3, 2), clouds(3), TorchEngine()) for _ in range(2))
    with pytest.raises(InvalidInput, match="tensors: strides 1 and 1 of different voxels"):
        one + other
