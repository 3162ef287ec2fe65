"""The server that the suite speaks to: ours, or the Triton whose address the environment holds."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.conformance.cases import Spoken
from tests.service.probe import serving_in_thread
from tests.service.toy_models import ToyFactory, write_bundle
from xscene.serving.encoder import EncoderService, EncoderSettings

ADDRESS = "XSCENE_TEST_TRITON"


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spoken]:
    if address := os.environ.get(ADDRESS):
        yield Spoken("triton", address)
        return
    folder = tmp_path_factory.mktemp("bundles")
    write_bundle(folder, "toy")
    given = EncoderSettings(metrics_port=0, bundles_dir=folder, bundles=("toy",), shared_memory=True)
    with serving_in_thread(lambda: EncoderService("text", given, ToyFactory()), given) as running:
        spoken = Spoken("ours", f"127.0.0.1:{running.port}")
        yield spoken
        spoken.channel.close()
