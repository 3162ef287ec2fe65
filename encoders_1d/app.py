"""The text encoder as a process: settings, start and stop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from encoders_1d.model import Limits, TextFactory
from xscene.nn.devices import AUTO, FLOAT32, Compute, torch_device
from xscene.services import SERVICES
from xscene.serving import server
from xscene.serving.encoder import EncoderService, EncoderSettings
from xscene.serving.settings import setting

NAME = "text"


@dataclass(frozen=True, kw_only=True)
class Settings(EncoderSettings):
    """Text encoder: sentences to embeddings of scenes and objects."""

    port: int = setting(SERVICES[NAME].port, "Port to listen on; 0 takes a free one.", low=0, high=65535)
    backbones_dir: Path = setting(Path("var/backbones"), "Directory that holds the frozen networks.")
    device: str = setting(AUTO, "cpu, cuda or cuda:1; auto takes cuda where there is one.")
    precision: str = setting(FLOAT32, "Of the frozen network's products: float32, bfloat16, float16 (GPU).")
    max_items: int = setting(256, "Texts of one request.", low=1)
    max_text_bytes: int = setting(16 << 10, "Bytes of one text.", low=1)
    max_batch_tokens: int = setting(2048, "Tokens that are computed together.", low=1)
    pass_tokens: int = setting(
        24, "Padding that is worth one more pass over the network; thousands on a GPU.", low=0
    )


def make(given: Settings) -> EncoderService:
    """The service with these settings."""
    torch.set_num_threads(given.num_threads)
    limits = Limits(
        max_items=given.max_items,
        max_text_bytes=given.max_text_bytes,
        max_batch_tokens=given.max_batch_tokens,
        pass_tokens=given.pass_tokens,
    )
    compute = Compute(torch_device(given.device), given.precision)
    return EncoderService(NAME, given, TextFactory(given.backbones_dir, limits, compute))


def run(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Serve with the settings of the process; its exit code."""
    return server.run(NAME, Settings, make, argv, environ)
