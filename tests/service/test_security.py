"""Credentials, roles, TLS and their reload, over real connections."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import grpc
import pytest

from tests.credentials import Authority, token_entry, write_tokens
from tests.service.probe import Probe, serving, stub
from xscene.errors import PermissionDenied, SettingsInvalid
from xscene.serving import calls, security
from xscene.serving.server import Server
from xscene.serving.settings import ServerSettings
from xscene.v1 import fusion_pb2, trainer_pb2, trainer_pb2_grpc

REQUEST = fusion_pb2.FuseRequest()
PAST, FUTURE = "2020-01-01T00:00:00Z", "2999-01-01T00:00:00Z"


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    return write_tokens(
        tmp_path / "tokens.json",
        token_entry("read", "reader", expires=FUTURE),
        token_entry("rule", "admin", tenant="ops"),
        token_entry("old", "admin", expires=PAST),
    )


async def code_of(call: grpc.aio.UnaryUnaryCall) -> tuple[str, str]:
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code().name, error.details()
    return "OK", ""


@pytest.mark.parametrize(
    ("metadata", "code", "words"),
    [
        ((), "UNAUTHENTICATED", "exactly one"),
        ((*bearer("read"), *bearer("read")), "UNAUTHENTICATED", "2 values"),
        ((("authorization", "Basic read"),), "UNAUTHENTICATED", "must be"),
        ((("authorization", "Bearer "),), "UNAUTHENTICATED", "must be"),
        (bearer("wrong"), "UNAUTHENTICATED", "not known"),
        (bearer("x" * 5000), "UNAUTHENTICATED", "must be"),
        (bearer("old"), "UNAUTHENTICATED", "expired"),
        (bearer("read"), "OK", ""),
        (bearer("rule"), "OK", ""),
    ],
)
async def test_only_a_known_token_in_its_time_is_let_in(
    tokens: Path, metadata: tuple, code: str, words: str
) -> None:
    async with serving(Probe(), tokens=tokens) as server:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as ch:
            got, details = await code_of(stub(ch).Fuse(REQUEST, metadata=metadata))
    assert got == code
    assert words in details


async def test_a_role_below_the_methods_is_denied_and_the_tenant_comes_from_the_token(tokens: Path) -> None:
    seen = []

    async def look(_: object) -> fusion_pb2.FuseResponse:
        seen.append(calls.current().identity)
        return fusion_pb2.FuseResponse()

    async with serving(Probe(look), tokens=tokens) as server:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as ch:
            trainer = trainer_pb2_grpc.TrainerServiceStub(ch)
            cancel = trainer_pb2.CancelRunRequest()
            assert await code_of(trainer.CancelRun(cancel, metadata=bearer("read"))) == (
                "PERMISSION_DENIED",
                "/xscene.v1.TrainerService/CancelRun needs role admin, the token has reader",
            )
            assert (await code_of(trainer.CancelRun(cancel, metadata=bearer("rule"))))[0] == "OK"
            await stub(ch).Fuse(REQUEST, metadata=bearer("rule"))
    assert (seen[0].tenant, seen[0].role) == ("ops", security.Role.ADMIN)


async def test_a_changed_token_file_takes_effect_and_a_broken_one_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(security.WatchedFiles.__init__, "__defaults__", (0.0,))
    monkeypatch.setattr(security.TokenTable.__init__, "__defaults__", (0.0,))
    path = write_tokens(tmp_path / "tokens.json", token_entry("one", "reader"))
    async with serving(Probe(), tokens=path) as server:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as ch:

            async def allowed(token: str) -> bool:
                return (await code_of(stub(ch).Fuse(REQUEST, metadata=bearer(token))))[0] == "OK"

            assert await allowed("one")
            assert not await allowed("two")
            write_tokens(path, token_entry("two", "reader"), token_entry("three", "reader"))
            assert await allowed("two")
            assert not await allowed("one")
            path.write_text("[{")
            assert await allowed("two")
            path.unlink()
            assert await allowed("two")
        reloads = {
            sample.labels["result"]: sample.value
            for metric in server.telemetry.reloads.collect()
            for sample in metric.samples
            if sample.name.endswith("_total")
        }
    assert reloads == {"done": 1, "failed": 2}


@pytest.mark.parametrize(
    "entries",
    [
        [],
        [{"sha256": "00", "tenant": "a", "role": "reader", "expires": None}],
        [token_entry("t", "owner")],
        [token_entry("t", "reader", tenant="")],
        [token_entry("t", "reader", expires="2030-01-01")],
        [token_entry("t", "reader", expires="soon")],
        [token_entry("t", "reader") | {"note": ""}],
        [token_entry("t", "reader"), token_entry("t", "admin", tenant="other")],
    ],
)
def test_a_token_file_with_a_fault_keeps_the_service_from_starting(tmp_path: Path, entries: list) -> None:
    path = write_tokens(tmp_path / "tokens.json", *entries)
    with pytest.raises(SettingsInvalid, match="tokens"):
        Server(Probe(), ServerSettings(metrics_port=0, tokens=path))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_beyond_loopback_nothing_is_open_unless_said_so(host: str, tokens: Path) -> None:
    with pytest.raises(SettingsInvalid, match="allow_anonymous"):
        Server(Probe(), ServerSettings(host=host))
    with pytest.raises(SettingsInvalid, match="allow_plaintext"):
        Server(Probe(), ServerSettings(host=host, tokens=tokens))


def test_every_method_of_ours_names_its_role() -> None:
    roles = {name: role for name, role in security.required_roles().items() if name.startswith("/xscene.")}
    assert len(roles) == 21
    assert set(roles.values()) == {security.Role.READER, security.Role.WRITER, security.Role.ADMIN}
    assert security.Gate(None, {}).required("/some.Other/Method") is security.Role.ADMIN


def test_a_method_that_names_no_role_is_refused_to_everybody() -> None:
    gate = security.Gate(None, {"/xscene.v1.New/Method": security.Role.NOBODY})
    with pytest.raises(PermissionDenied, match="names no role"):
        gate.admit("/xscene.v1.New/Method", ())


async def reachable(server: Server, credentials: grpc.ChannelCredentials | None) -> bool:
    target = f"localhost:{server.port}"
    ch = grpc.aio.secure_channel(target, credentials) if credentials else grpc.aio.insecure_channel(target)
    async with ch:
        return (await code_of(stub(ch).Fuse(REQUEST, timeout=3)))[0] == "OK"


async def test_mutual_tls_lets_in_only_certificates_of_its_authority(tmp_path: Path) -> None:
    authority, stranger = Authority(), Authority("stranger")
    cert, key = authority.issue().write(tmp_path, "server")
    ca = tmp_path / "ca.crt"
    ca.write_bytes(authority.cert)

    def credentials(pair: object = None) -> grpc.ChannelCredentials:
        return grpc.ssl_channel_credentials(
            authority.cert, getattr(pair, "key", None), getattr(pair, "cert", None)
        )

    async with serving(Probe(), tls_cert=cert, tls_key=key, tls_client_ca=ca) as server:
        assert await reachable(server, credentials(authority.issue("robot")))
        assert not await reachable(server, credentials())
        assert not await reachable(server, credentials(stranger.issue("robot")))
        assert not await reachable(server, credentials(authority.issue("robot", expired=True)))
        assert not await reachable(server, None)
        assert await reachable(server, credentials(authority.issue("robot")))


@pytest.mark.parametrize("content", [b"", b"garbage", b"-----BEGIN CERTIFICATE-----\nMIIB", "half"])
async def test_a_broken_authority_file_changes_nothing_and_keeps_a_service_from_starting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | str
) -> None:
    monkeypatch.setattr(security.WatchedFiles.__init__, "__defaults__", (0.0,))
    authority = Authority()
    cert, key = authority.issue().write(tmp_path, "server")
    ca = tmp_path / "ca.crt"
    ca.write_bytes(authority.cert)
    broken = authority.cert[:200] if content == "half" else content
    robot = authority.issue("robot")
    credentials = grpc.ssl_channel_credentials(authority.cert, robot.key, robot.cert)
    async with serving(Probe(), tls_cert=cert, tls_key=key, tls_client_ca=ca) as server:
        assert await reachable(server, credentials)
        ca.write_bytes(broken)
        assert await reachable(server, credentials)
        assert server.telemetry.reloads.labels("certificate", "failed")._value.get() == 1
        fresh = Authority("fresh")
        ca.write_bytes(authority.cert + fresh.cert)
        visitor = fresh.issue("robot")
        assert await reachable(
            server, grpc.ssl_channel_credentials(authority.cert, visitor.key, visitor.cert)
        )
    ca.write_bytes(broken)
    given = ServerSettings(metrics_port=0, tls_cert=cert, tls_key=key, tls_client_ca=ca)
    with pytest.raises(SettingsInvalid, match="tls_client_ca"):
        await Server(Probe(), given).start()


async def test_a_renewed_certificate_is_used_without_a_lost_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(security.WatchedFiles.__init__, "__defaults__", (0.0,))
    first, second = Authority("first"), Authority("second")
    cert, key = first.issue().write(tmp_path, "server")
    async with serving(Probe(), tls_cert=cert, tls_key=key) as server:
        old, new = (grpc.ssl_channel_credentials(authority.cert) for authority in (first, second))
        codes: list[str] = []
        async with grpc.aio.secure_channel(f"localhost:{server.port}", old) as ch:
            await stub(ch).Fuse(REQUEST)

            async def load() -> None:
                until = time.monotonic() + 2.5
                while time.monotonic() < until:
                    codes.append((await code_of(stub(ch).Fuse(REQUEST, timeout=5)))[0])

            clients = [asyncio.create_task(load()) for _ in range(4)]
            assert not await reachable(server, new)
            pair = second.issue()
            cert.write_bytes(pair.cert)  # half of a rotation: the key is still the old one
            assert await reachable(server, old)
            key.write_bytes(pair.key)
            assert await reachable(server, new)
            assert not await reachable(server, old)
            await asyncio.gather(*clients)
    assert set(codes) == {"OK"}
    assert len(codes) > 100
