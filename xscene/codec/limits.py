"""What a server accepts at most, in one place and passed to every decoder of requests."""

from __future__ import annotations

import sys
from dataclasses import dataclass, fields
from typing import Self

from xscene.errors import SettingsInvalid


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Sizes past which a request is refused; each is checked before anything is allocated."""

    max_name_bytes: int = 256
    """Bytes of an id, a label, a bundle's name or a metadata key."""
    max_text_bytes: int = 16 << 10
    """Bytes of one sentence."""
    max_texts: int = 256
    """Sentences of a scene, or referrals of an object."""
    max_images: int = 1024
    """Pictures of a scene, or of an object in a query."""
    max_image_bytes: int = 64 << 20
    """Bytes of one picture, encoded or raw, or of one mask."""
    max_image_pixels: int = 32 << 20
    """Pixels of one raw picture; encoded ones are measured where they are decoded."""
    max_points: int = 10_000_000
    """Points of a scene's cloud or of an object's."""
    max_point_fields: int = 64
    """Fields of one point, those that are not read included."""
    max_mesh_bytes: int = 256 << 20
    """Bytes of one mesh file."""
    max_objects: int = 1024
    """Objects of one scene."""
    max_views: int = 64
    """Views of one object."""
    max_labels: int = 64
    """Labels of one scene, or of one query for objects."""
    max_metadata_entries: int = 64
    """The caller's own keys of one scene, or of one filter."""
    max_metadata_value_bytes: int = 1024
    """Bytes of one metadata value."""
    max_filter_values: int = 1024
    """Ids or labels in one condition of a filter."""
    max_items: int = 1024
    """Scenes in one call to fuse."""
    max_embedding_width: int = 8192
    """Numbers of one embedding or backbone feature."""
    max_search_limit: int = 1000
    """Hits of one search, or beliefs of one answer when localising."""
    max_page_size: int = 1000
    """Scenes on one page."""
    max_page_token_bytes: int = 1024
    """Bytes of a page token."""
    max_chunk_bytes: int = 2 << 20
    """Bytes of one chunk of an ingest."""
    max_scene_items: int = 1 << 16
    """Items of one ingest."""
    max_scene_bytes: int = 1 << 30
    """Bytes of one ingest, header and items included."""
    max_datasets: int = 64
    """Data sets of one training run."""
    max_override_bytes: int = 64 << 10
    """Bytes of a run's overrides as they are sent."""
    max_override_depth: int = 8
    """Levels of a run's overrides, 1 where no value is a list or a mapping; more than 30 cannot be sent."""

    def __post_init__(self) -> None:
        for field in fields(self):
            if (value := getattr(self, field.name)) < 1:
                raise SettingsInvalid(f"{field.name}: {value}, needs at least 1")

    @classmethod
    def none(cls) -> Self:
        """No limits, for answers: what the server sent fits into a message that was already received."""
        return cls(**{field.name: sys.maxsize for field in fields(cls)})
