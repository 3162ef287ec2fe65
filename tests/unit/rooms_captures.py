"""Captures of furnished rooms that were never rendered."""

from __future__ import annotations

import numpy as np

from trainer.data.rooms import palettes
from trainer.data.rooms.captures import Capture, View
from trainer.data.rooms.drawings import Style, draw
from trainer.data.rooms.places import Place
from trainer.data.rooms.rendering import Frame as Seen
from trainer.data.rooms.scanning import Scan
from trainer.data.rooms.sentences import Speech, refer
from trainer.data.rooms.stages import instances
from trainer.data.rooms.streams import stream
from xscene.geometry.projection import Intrinsics

LENS = Intrinsics(fx=50, fy=50, cx=19.5, cy=14.5, width=40, height=30)


def turned(degrees, shift):
    yaw = np.radians(degrees)
    matrix = np.eye(4)
    matrix[:2, :2] = ((np.cos(yaw), -np.sin(yaw)), (np.sin(yaw), np.cos(yaw)))
    matrix[:3, 3] = shift
    return matrix


def captured(library, revision, room, raw, aligned):
    """A scan whose cloud has three vertices of each object, at its middle."""
    parts = instances(room)
    place = Place(seed=0, index=0)
    rng = np.random.default_rng(revision)
    objects = np.repeat(np.arange(len(parts)), 3).astype(np.int32)
    vertices = rng.uniform(0, 3, size=(len(objects), 3)).astype(np.float32)
    ids = np.tile(np.arange(LENS.width, dtype=np.uint16) % (len(parts) + 1), (LENS.height, 1))
    depth = rng.uniform(0.5, 4, size=ids.shape).round(3).astype(np.float32)
    frame = Seen(rng.integers(0, 255, (*ids.shape, 3), dtype=np.uint8), depth, ids)
    return Capture(
        place=place,
        revision=revision,
        room=room,
        parts=parts,
        raw_from_room=raw,
        aligned_from_room=aligned,
        intrinsics=LENS,
        views=[View(turned(10 * at, (at, 1, 1.5)), frame, depth) for at in range(6)],
        scan=Scan(
            vertices,
            rng.integers(0, 255, (len(objects), 3), dtype=np.uint8),
            objects,
            (2 * objects + np.arange(len(objects)) % 2).astype(np.int32),
            np.arange(len(objects), dtype=np.int32).reshape(-1, 3),
        ),
        scan_light=palettes.LIGHTS[1],
        partial=False,
        drawings={style: draw(room, style, aligned, library.baked) for style in Style},
        referrals=refer(stream("x"), room, Speech()),
        models={piece.key: piece.asset for piece in room.pieces},
    )
