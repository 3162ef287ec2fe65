"""Who may do what with an encoder, and shared memory that belongs to a credential."""

from __future__ import annotations

import mmap
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as pb

from tests.credentials import token_entry, write_tokens
from tests.service.toy_models import ToyFactory, write_bundle
from tests.service.toy_service import Toys, toys
from xscene.errors import (
    AlreadyExists,
    InvalidInput,
    LimitExceeded,
    NotFound,
    Overloaded,
    PermissionDenied,
    SettingsInvalid,
    Unsupported,
)
from xscene.services import INFERENCE
from xscene.serving.encoder import EncoderSettings
from xscene.serving.inference import Regions
from xscene.serving.security import INFERENCE_ROLES, Role, required_roles

PAGE = mmap.PAGESIZE
SERVICE = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"]
REQUESTS = {method.name: getattr(pb, method.input_type.name) for method in SERVICE.methods}
STREAMS = {"ModelStreamInfer"}
NUMBERS = np.arange(4, dtype=np.int32)


@pytest.fixture
def bundles(tmp_path: Path) -> Path:
    write_bundle(tmp_path, "toy")
    entries = [token_entry(f"{role}{number}", role) for role in ("reader", "admin") for number in (1, 2)]
    write_tokens(tmp_path / "tokens.json", *entries)
    return tmp_path


@pytest.fixture
def shared() -> Iterator[Path]:
    """A shared memory object of one page that begins with four numbers."""
    path = Path("/dev/shm") / f"xscene-test-{uuid.uuid4().hex}"
    path.write_bytes(NUMBERS.tobytes().ljust(PAGE, b"\0"))
    yield path
    path.unlink(missing_ok=True)


async def status(service: Toys, method: str, token: str = "") -> str:
    metadata = [("authorization", f"Bearer {token}")] if token else []
    call = getattr(service.stub, method)
    try:
        if method in STREAMS:
            _ = [answer async for answer in call(iter([REQUESTS[method]()]), metadata=metadata)]
        else:
            await call(REQUESTS[method](), metadata=metadata)
    except grpc.aio.AioRpcError as error:
        return error.code().name
    return "OK"


def test_every_method_of_the_protocol_has_the_role_that_it_should() -> None:
    roles = required_roles()
    found = {name: roles.get(f"/{INFERENCE}/{name}", Role.ADMIN).name for name in REQUESTS}
    public = {"ServerLive", "ServerReady"}
    admin = {
        name for name in REQUESTS if name.startswith(("RepositoryModel", "System", "Cuda", "Trace", "Log"))
    }
    assert {name for name in found if found[name] == "PUBLIC"} == public
    assert {name for name in found if found[name] == "ADMIN"} == admin
    assert set(INFERENCE_ROLES) <= set(REQUESTS)


@pytest.mark.parametrize("method", REQUESTS)
async def test_a_method_is_refused_below_its_role(bundles: Path, method: str) -> None:
    role = required_roles().get(f"/{INFERENCE}/{method}", Role.ADMIN)
    async with toys(bundles, "toy", factory=ToyFactory("shift"), tokens=bundles / "tokens.json") as service:
        found = [await status(service, method, token) for token in ("", "reader1", "admin1")]
        refused = [code in ("UNAUTHENTICATED", "PERMISSION_DENIED") for code in found]
        assert refused == [role > Role.PUBLIC, role > Role.READER, False]


async def register(service: Toys, path: Path, token: str = "", **changed: Any) -> None:
    wanted = {"name": "r", "key": f"/{path.name}", "offset": 0, "byte_size": PAGE} | changed
    request = pb.SystemSharedMemoryRegisterRequest(**wanted)
    await service.as_caller(token)._call(service.stub.SystemSharedMemoryRegister, request, 10)


async def infer(service: Toys, token: str = "", num_bytes: int = 16, offset: int = 0, into: int = -1) -> Any:
    request = pb.ModelInferRequest(model_name="shift")
    tensor = request.inputs.add(name="values", datatype="INT32", shape=[num_bytes // 4])
    places = [(tensor, offset)]
    if into >= 0:
        places.append((request.outputs.add(name="copy"), into))
    for message, place in places:
        message.parameters["shared_memory_region"].string_param = "r"
        message.parameters["shared_memory_byte_size"].int64_param = num_bytes
        message.parameters["shared_memory_offset"].int64_param = place
    return await service.as_caller(token)._call(service.stub.ModelInfer, request, 10)


async def test_shared_memory_is_off_by_default(bundles: Path, shared: Path) -> None:
    async with toys(bundles, "toy") as service:
        with pytest.raises(Unsupported, match="the setting shared_memory turns it on"):
            await register(service, shared)
        with pytest.raises(Unsupported, match="the setting shared_memory turns it on"):
            await infer(service)
        for method in ("SystemSharedMemoryStatus", "SystemSharedMemoryUnregister"):
            assert await status(service, method) == "UNIMPLEMENTED"
        found = await service.stub.ServerMetadata(pb.ServerMetadataRequest())
        assert "system_shared_memory" not in found.extensions


@pytest.mark.parametrize(
    ("key", "error"),
    [
        ("psm_other", PermissionDenied),
        ("", PermissionDenied),
        ("/../etc/passwd", PermissionDenied),
        ("xscene-/../../etc/passwd", InvalidInput),
        ("xscene-\0", InvalidInput),
        ("xscene-" + "x" * 300, InvalidInput),
        ("xscene-not-there", NotFound),
    ],
)
async def test_only_keys_with_the_prefix_can_be_registered(
    bundles: Path, shared: Path, key: str, error: type[Exception]
) -> None:
    async with toys(bundles, "toy", factory=ToyFactory("shift"), shared_memory=True) as service:
        with pytest.raises(error, match="key"):
            await register(service, shared, key=key)


def test_what_is_no_shared_memory_object_is_refused_without_waiting(shared: Path) -> None:
    regions = Regions(enabled=True, prefix="xscene-", max_regions=1)
    shared.unlink()
    os.mkfifo(shared)
    with pytest.raises(InvalidInput, match="no shared memory object"):
        regions.register("owner", "r", shared.name, 0, 4)
    shared.unlink()
    shared.symlink_to("/etc/passwd")
    with pytest.raises(NotFound, match="no shared memory object"):
        regions.register("owner", "r", shared.name, 0, 4)
    with pytest.raises(InvalidInput, match="name: is empty"):
        regions.register("owner", "", shared.name, 0, 4)


async def test_a_region_is_there_for_its_own_credential_alone(bundles: Path, shared: Path) -> None:
    async with toys(bundles, "toy", tokens=bundles / "tokens.json", shared_memory=True) as service:
        await register(service, shared, "admin1")
        assert np.frombuffer((await infer(service, "admin1")).raw_output_contents[0], np.int32).tolist() == [
            0,
            1,
            2,
            3,
        ]
        for token in ("admin2", "reader1"):
            with pytest.raises(NotFound, match="'r' is not registered"):
                await infer(service, token)
        seen = [
            list(
                (
                    await service.stub.SystemSharedMemoryStatus(
                        pb.SystemSharedMemoryStatusRequest(), metadata=[("authorization", f"Bearer {token}")]
                    )
                ).regions
            )
            for token in ("admin1", "admin2")
        ]
        assert seen == [["r"], []]
        for name in ("r", ""):
            await service.stub.SystemSharedMemoryUnregister(
                pb.SystemSharedMemoryUnregisterRequest(name=name),
                metadata=[("authorization", "Bearer admin2")],
            )
        await infer(service, "admin1")
        await register(service, shared, "admin2", offset=4, byte_size=8)
        with pytest.raises(AlreadyExists, match="'r' is registered"):
            await register(service, shared, "admin1")


async def test_one_region_too_many_is_refused(bundles: Path, shared: Path) -> None:
    settings: dict[str, Any] = {"shared_memory": True, "max_shared_memory_regions": 2}
    async with toys(bundles, "toy", factory=ToyFactory("shift"), **settings) as service:
        await register(service, shared, name="a")
        await register(service, shared, name="b")
        with pytest.raises(Overloaded, match="the limit max_shared_memory_regions is 2"):
            await register(service, shared)


async def test_outputs_are_written_to_their_place_and_nowhere_else(bundles: Path, shared: Path) -> None:
    async with toys(bundles, "toy", shared_memory=True) as service:
        await register(service, shared, byte_size=64)
        answer = await infer(service, into=48)
        assert list(answer.raw_output_contents) == [b""]
        content = np.fromfile(shared, np.int32)
        assert content[12:16].tolist() == [0, 1, 2, 3]
        assert not content[4:12].any()
        assert not content[16:].any()
        with pytest.raises(InvalidInput, match="16 bytes at offset 49 of shared memory region 'r'"):
            await infer(service, into=49)


async def test_an_object_that_was_cut_short_is_the_callers_fault_and_harms_nobody(
    bundles: Path, shared: Path
) -> None:
    async with toys(bundles, "toy", shared_memory=True) as service:
        await register(service, shared)
        os.truncate(shared, 8)
        with pytest.raises(InvalidInput, match="became shorter"):
            await infer(service)
        assert await service.copy("shift", 1) == [1]


async def test_a_tensor_in_shared_memory_may_be_no_larger_than_a_message(bundles: Path, shared: Path) -> None:
    async with toys(bundles, "toy", shared_memory=True, max_message_bytes=2048) as service:
        await register(service, shared)
        with pytest.raises(LimitExceeded, match="input 'values': 4096 bytes, the limit is 2048"):
            await infer(service, num_bytes=4096)


def test_a_region_that_may_only_be_read_is_not_written(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = os.open

    def read_only(path: Any, flags: int) -> int:
        if flags & os.O_RDWR:
            raise PermissionError
        return opened(path, flags)

    monkeypatch.setattr(os, "open", read_only)
    regions = Regions(enabled=True, prefix="xscene-", max_regions=1)
    regions.register("owner", "r", shared.name, 0, PAGE)
    place = regions.find("owner", "r").place("output 'copy'", 0, 4)
    assert place.read(4).tolist() == [0, 0, 0, 0]
    with pytest.raises(InvalidInput, match="output 'copy': shared memory region 'r' cannot be written"):
        place.write(b"1234")


def test_a_region_is_closed_when_its_last_user_is_gone(shared: Path) -> None:
    regions = Regions(enabled=True, prefix="xscene-", max_regions=1)
    before = len(list(Path("/proc/self/fd").iterdir()))
    regions.register("owner", "r", shared.name, 0, PAGE)
    used = regions.find("owner", "r")
    regions.unregister("owner", "r")
    assert used.place("input", 0, 4).read(4).tolist() == [0, 0, 0, 0]
    del used
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"shared_memory_prefix": "/"}, "every key would be allowed"),
        ({"bundles": ()}, "names no bundle"),
        (
            {"bundles": ("a", "b", "c"), "max_loaded_bundles": 2},
            "3 bundles, the limit max_loaded_bundles is 2",
        ),
        ({"max_queue": 0}, "max_queue: 0 is below 1"),
        ({"window_ms": -1}, "window_ms: -1 is below 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], why: str) -> None:
    with pytest.raises(SettingsInvalid, match=why):
        EncoderSettings(**settings)
