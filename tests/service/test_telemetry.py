"""Metrics, logs and traces as they leave a server."""

from __future__ import annotations

import json
import logging
import urllib.request
from concurrent import futures
from pathlib import Path

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from tests.credentials import token_entry, write_tokens
from tests.service.probe import Probe, serving, stub
from xscene.errors import ModelMismatch
from xscene.serving import telemetry
from xscene.serving.settings import ServerSettings
from xscene.v1 import fusion_pb2

TRACE = "0af7651916cd43dd8448eb211c80319c"
METADATA = (("traceparent", f"00-{TRACE}-b7ad6b7169203331-01"),)


async def refuse(_: object) -> fusion_pb2.FuseResponse:
    logging.getLogger("xscene.test").warning("inside", extra={"num_things": 3})
    raise ModelMismatch("no")


def page_of(server: object) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{server.metrics_port}/metrics") as answer:
        return answer.read().decode()


async def test_the_page_holds_every_metric_of_the_table_and_no_other(tmp_path: Path, free_port: int) -> None:
    tokens = write_tokens(tmp_path / "tokens.json", token_entry("t", "reader"))
    metadata = (("authorization", "Bearer t"),)
    async with serving(Probe(), metrics_port=free_port, tokens=tokens) as server:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as ch:
            await stub(ch).Fuse(fusion_pb2.FuseRequest(), metadata=metadata)
        page = page_of(server)
    kinds = dict(line.split()[2:4] for line in page.splitlines() if line.startswith("# TYPE"))
    kinds = {
        name: kind
        for name, kind in kinds.items()
        if not name.startswith(telemetry.PROCESS_PREFIX) and not name.endswith("_created")
    }
    assert kinds == {row.name: row.kind.__name__.lower() for row in telemetry.METRICS}
    call = '{code="OK",method="/xscene.v1.FusionService/Fuse"}'
    assert f"xscene_rpc_handled_total{call} 1.0" in page
    assert "xscene_ready 1.0" in page
    assert "process_resident_memory_bytes" in page


async def test_log_lines_are_json_with_the_callers_trace(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    try:
        telemetry.set_up_logging(ServerSettings())
        async with serving(Probe(refuse)) as server:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as ch:
                with pytest.raises(grpc.aio.AioRpcError):
                    await stub(ch).Fuse(fusion_pb2.FuseRequest(model_id="a secret"), metadata=METADATA)
    finally:
        root.handlers[:], root.level = before
    err = capsys.readouterr().err
    lines = [json.loads(line) for line in err.splitlines()]
    inside = next(line for line in lines if line["event"] == "inside")
    assert (inside["trace_id"], inside["level"], inside["num_things"]) == (TRACE, "warning", 3)
    refused = next(line for line in lines if line["event"] == "call refused")
    assert (refused["trace_id"], refused["code"], refused["why"]) == (TRACE, "FAILED_PRECONDITION", "no")
    assert "secret" not in err


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    def __init__(self) -> None:
        self.spans: list = []

    def Export(self, request: object, context: object) -> object:
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                self.spans.extend(scope.spans)
        return trace_service_pb2.ExportTraceServiceResponse()


async def test_spans_reach_the_collector_under_the_callers_trace(free_port: int) -> None:
    collector = Collector()
    sink = grpc.server(futures.ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, sink)
    sink.add_insecure_port(f"127.0.0.1:{free_port}")
    sink.start()
    try:
        async with serving(Probe(), traces_endpoint=f"http://127.0.0.1:{free_port}") as server:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as ch:
                await stub(ch).Fuse(fusion_pb2.FuseRequest(), metadata=METADATA)
            assert server.telemetry.span_trace_id() == ""
    finally:
        sink.stop(0)
    assert [(span.name, span.trace_id.hex()) for span in collector.spans] == [
        ("/xscene.v1.FusionService/Fuse", TRACE)
    ]
