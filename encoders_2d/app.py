"""The image encoder as a process: settings, start and stop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from encoders_2d.model import Limits, VisionFactory
from xscene.nn.devices import AUTO, FLOAT32, Compute, torch_device
from xscene.services import SERVICES
from xscene.serving import server
from xscene.serving.encoder import EncoderService, EncoderSettings
from xscene.serving.settings import setting

NAME = "image"


@dataclass(frozen=True, kw_only=True)
class Settings(EncoderSettings):
    """Image encoder: pictures and floorplans to embeddings of scenes and objects."""

    port: int = setting(SERVICES[NAME].port, "Port to listen on; 0 takes a free one.", low=0, high=65535)
    backbones_dir: Path = setting(Path("var/backbones"), "Directory that holds the frozen networks.")
    device: str = setting(AUTO, "cpu, cuda or cuda:1; auto takes cuda where there is one.")
    precision: str = setting(FLOAT32, "Of the frozen network's products: float32, bfloat16, float16 (GPU).")
    max_items: int = setting(64, "Pictures of one request.", low=1)
    max_image_bytes: int = setting(16 << 20, "Bytes of one picture's file.", low=1)
    # Pillow warns of pictures that are larger than the highest value.
    max_image_pixels: int = setting(24 << 20, "Pixels of one picture.", low=1, high=85 << 20)
    max_request_pixels: int = setting(256 << 20, "Pixels of all pictures of one request.", low=1)
    min_image_side: int = setting(8, "Pixels that each side of a picture or crop needs.", low=1)
    max_jpeg_scans: int = setting(64, "Scans of a progressive JPEG.", low=1)
    max_image_parts: int = setting(
        1024, "Segments in front of a JPEG's pixels, or chunks of a PNG besides its pixels.", low=16
    )
    max_batch_images: int = setting(4, "Pictures that are computed together; dozens on a GPU.", low=1)


def make(given: Settings) -> EncoderService:
    """The service with these settings."""
    torch.set_num_threads(given.num_threads)
    compute = Compute(torch_device(given.device), given.precision)
    return EncoderService(NAME, given, VisionFactory(given.backbones_dir, limits(given), compute))


def limits(given: Settings) -> Limits:
    """The limits that the settings set."""
    return Limits(
        max_items=given.max_items,
        max_image_bytes=given.max_image_bytes,
        max_image_pixels=given.max_image_pixels,
        max_request_pixels=given.max_request_pixels,
        min_image_side=given.min_image_side,
        max_jpeg_scans=given.max_jpeg_scans,
        max_image_parts=given.max_image_parts,
        max_answer_bytes=given.max_message_bytes,
        max_batch_images=given.max_batch_images,
    )


def run(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Serve with the settings of the process; its exit code."""
    return server.run(NAME, Settings, make, argv, environ)
