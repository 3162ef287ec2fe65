"""What a connection promises: calls tried again, all addresses used, certificates shown, numbers checked."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.credentials import Authority
from tests.service.probe import serving_in_thread
from tests.service.twin_gateway import TwinGateway
from xscene import errors
from xscene.client import AsyncSceneClient, Connection, SceneClient, health
from xscene.serving.settings import ServerSettings
from xscene.types import SceneContent, SceneHeader, SceneRecord

RECORD = SceneRecord(header=SceneHeader(scene_id="a"), content=SceneContent(texts=("a kitchen",)))
ATTEMPTS = 3
FAILURES = [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK]
TRIED_AGAIN = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
SECONDS = [0, -1, -0.0, math.nan, math.inf, -math.inf, 1e9]


class FailingGateway(TwinGateway):
    """A gateway that ends every call with one status."""

    def __init__(self) -> None:
        super().__init__()
        self.code = grpc.StatusCode.UNKNOWN
        self.num_calls = 0

    async def _end(self, context: Any) -> None:
        self.num_calls += 1
        await context.abort(self.code, "as told")

    async def GetScene(self, request: Any, context: Any) -> Any:
        await self._end(context)

    async def IngestScene(self, request_iterator: AsyncIterator[Any], context: Any) -> Any:
        _ = [message async for message in request_iterator]
        await self._end(context)

    async def WatchReindex(self, request: Any, context: Any) -> AsyncIterator[Any]:
        await self._end(context)
        yield


class CountingGateway(TwinGateway):
    """A gateway that counts who asked it."""

    def __init__(self) -> None:
        super().__init__()
        self.num_calls = 0

    def itself(self) -> CountingGateway:
        return self

    async def DeleteScene(self, request: Any, context: Any) -> Any:
        self.num_calls += 1
        return await super().DeleteScene(request, context)


@pytest.fixture
def failing() -> Iterator[tuple[FailingGateway, Connection]]:
    twin = FailingGateway()
    with serving_in_thread(lambda: twin, ServerSettings(metrics_port=0)) as server:
        yield (
            twin,
            Connection(
                address=f"127.0.0.1:{server.port}",
                max_attempts=ATTEMPTS,
                initial_backoff_s=0.01,
                max_backoff_s=0.01,
            ),
        )


async def attempts(twin: FailingGateway, call: Callable[[], Awaitable[Any]]) -> dict[str, int]:
    """How often a call is made that ends with each status."""
    made = {}
    for code in FAILURES:
        twin.code, twin.num_calls = code, 0
        with pytest.raises(errors.XSceneError, match="as told") as caught:
            await call()
        assert caught.value.status == errors.find("", code.name).status
        made[code.name] = twin.num_calls
    return made


EXPECTED = {code.name: ATTEMPTS if code in TRIED_AGAIN else 1 for code in FAILURES}


@pytest.mark.parametrize("call", ["scene", "ingest", "watch_reindex"])
async def test_only_a_server_that_is_away_or_leaving_is_asked_again(
    failing: tuple[FailingGateway, Connection], call: str
) -> None:
    twin, connection = failing
    with SceneClient(connection) as client:
        work = {
            "scene": lambda: client.scene("a"),
            "ingest": lambda: client.ingest(RECORD),
            "watch_reindex": lambda: list(client.watch_reindex("r1")),
        }[call]
        assert await attempts(twin, lambda: asyncio.to_thread(work)) == EXPECTED
    async with AsyncSceneClient(connection) as other:

        async def watch() -> None:
            _ = [event async for event in other.watch_reindex("r1")]

        work = {
            "scene": lambda: other.scene("a"),
            "ingest": lambda: other.ingest(RECORD),
            "watch_reindex": watch,
        }[call]
        assert await attempts(twin, work) == EXPECTED


def test_the_table_of_attempts_names_what_it_promises() -> None:
    assert EXPECTED["RESOURCE_EXHAUSTED"] == EXPECTED["DEADLINE_EXCEEDED"] == EXPECTED["ABORTED"] == 1
    assert EXPECTED["UNAVAILABLE"] == EXPECTED["CANCELLED"] == 3


async def test_all_addresses_of_a_name_are_asked_in_turn_and_what_is_left_of_them_goes_on() -> None:
    twins = [CountingGateway(), CountingGateway()]
    with ExitStack() as first_server, ExitStack() as others:
        first, second = (
            stack.enter_context(serving_in_thread(twin.itself, ServerSettings(metrics_port=0))).port
            for twin, stack in zip(twins, (first_server, others), strict=True)
        )
        with SceneClient(Connection(address=f"ipv4:127.0.0.1:{first},127.0.0.1:{second}")) as client:
            until_both(client, twins)
            for twin in twins:
                twin.num_calls = 0
            for _ in range(20):
                client.delete("a")
            assert [twin.num_calls for twin in twins] == [10, 10]
            first_server.close()
            for _ in range(20):
                client.delete("a")
        assert [twin.num_calls for twin in twins] == [10, 30]


def until_both(client: SceneClient, twins: list[CountingGateway]) -> None:
    """Ask until connections to both are made."""
    for _ in range(10_000):
        client.delete("a")
        if all(twin.num_calls for twin in twins):
            return
    raise AssertionError("one of the addresses is never asked")


async def test_the_certificate_of_the_client_is_shown(tmp_path: Path) -> None:
    authority, stranger = Authority(), Authority("stranger")
    ca = tmp_path / "ca.crt"
    ca.write_bytes(authority.cert)
    cert, key = authority.issue().write(tmp_path, "server")
    settings = ServerSettings(metrics_port=0, tls_cert=cert, tls_key=key, tls_client_ca=ca)
    with serving_in_thread(TwinGateway, settings) as server:
        bare = Connection(address=f"localhost:{server.port}", ca_cert=ca, max_attempts=1, timeout_s=5)
        known, unknown = (
            replace(bare, client_cert=cert, client_key=key)
            for cert, key in (
                authority.issue().write(tmp_path, "ours"),
                stranger.issue().write(tmp_path, "x"),
            )
        )
        with SceneClient(known) as client:
            assert client.ingest(RECORD).scene_id == "a"
        async with AsyncSceneClient(known) as other:
            assert (await other.scene("a")).header.scene_id == "a"
            assert (await other.ingest(RECORD)).scene_id == "a"
        for refused in (bare, unknown):
            with SceneClient(refused) as client, pytest.raises(errors.NotReady):
                client.scene("a")
            async with AsyncSceneClient(refused) as other:
                with pytest.raises(errors.NotReady):
                    await other.scene("a")


@pytest.mark.parametrize("field", ["ca_cert", "client_cert", "client_key"])
def test_a_file_that_cannot_be_read_is_named_by_its_field(tmp_path: Path, field: str) -> None:
    cert, key = Authority().issue().write(tmp_path, "x")
    files = {"ca_cert": cert, "client_cert": cert, "client_key": key} | {field: tmp_path / "none"}
    with pytest.raises(errors.InvalidInput, match=f"{field}: cannot be read: No such file"):
        SceneClient(Connection(address="h:1", **files))
    with pytest.raises(errors.InvalidInput, match=f"{field}: cannot be read: Is a directory"):
        SceneClient(Connection(address="h:1", **files | {field: tmp_path}))


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"address": ""}, "address"),
        ({"address": "h:1", "client_cert": Path("c")}, "client_cert"),
        ({"address": "robot.local:1", "token": "t"}, "token"),
        ({"address": "dns:///10.0.0.1:1", "token": "t"}, "token"),
        *(({"max_attempts": count}, "max_attempts") for count in (0, 6, -1, 2.5, math.nan)),
        *(({"max_message_bytes": count}, "max_message_bytes") for count in (0, -1, 1 << 31, 1e6, math.inf)),
        *(({"timeout_s": seconds}, "timeout_s") for seconds in SECONDS),
        *(({"initial_backoff_s": seconds}, "initial_backoff_s") for seconds in (*SECONDS, 0.009)),
        *(({"max_backoff_s": seconds}, "max_backoff_s") for seconds in (*SECONDS, 0.009)),
    ],
    ids=str,
)
def test_a_connection_that_cannot_be_right_is_refused(given: dict, field: str) -> None:
    with pytest.raises(errors.InvalidInput, match=field):
        Connection(**{"address": "h:1"} | given)


@pytest.mark.parametrize("timeout_s", SECONDS)
async def test_a_time_that_no_call_can_take_is_refused_in_every_call(
    failing: tuple[FailingGateway, Connection], timeout_s: float
) -> None:
    twin, connection = failing
    with SceneClient(connection) as client:
        for call in (
            lambda: client.scene("a", timeout_s=timeout_s),
            lambda: client.ingest(RECORD, timeout_s=timeout_s),
            lambda: list(client.scenes(timeout_s=timeout_s)),
            lambda: list(client.localize([RECORD.content], timeout_s=timeout_s)),
            lambda: health.check(connection, timeout_s=timeout_s),
        ):
            with pytest.raises(errors.InvalidInput, match=f"timeout_s: {timeout_s} s, needs more than 0"):
                call()
    async with AsyncSceneClient(connection) as other:
        with pytest.raises(errors.InvalidInput, match="timeout_s"):
            await other.scene("a", timeout_s=timeout_s)
        with pytest.raises(errors.InvalidInput, match="timeout_s"):
            await other.ingest(RECORD, timeout_s=timeout_s)
        with pytest.raises(errors.InvalidInput, match="timeout_s"):
            _ = [belief async for belief in other.localize([RECORD.content], timeout_s=timeout_s)]
    assert twin.num_calls == 0


@pytest.mark.parametrize(
    "extreme",
    [
        {"timeout_s": 365 * 86400, "initial_backoff_s": 0.01, "max_message_bytes": (1 << 31) - 1},
        {"timeout_s": 1e-9, "max_backoff_s": 365 * 86400.0, "max_message_bytes": 1},
        {"initial_backoff_s": 365 * 86400.0, "max_backoff_s": 0.01, "max_attempts": 5},
    ],
)
async def test_numbers_at_their_limits_reach_a_server(
    extreme: dict, failing: tuple[FailingGateway, Connection], capfd: pytest.CaptureFixture
) -> None:
    twin, connection = failing
    twin.code = grpc.StatusCode.NOT_FOUND
    allowed = (errors.DeadlineExceeded, errors.NotFound, errors.Overloaded)
    with SceneClient(replace(connection, **extreme)) as client, pytest.raises(allowed):
        client.scene("a")
    async with AsyncSceneClient(replace(connection, **extreme)) as other:
        with pytest.raises(allowed):
            await other.scene("a")
    assert "rror" not in capfd.readouterr().err
