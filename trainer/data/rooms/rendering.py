"""The renderer: colour, depth and instance ids in one pass, on a GPU or on the CPU through EGL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from trainer.data.rooms.palettes import Light
from trainer.data.rooms.shapes import Shape
from xscene.errors import ExtraMissing, PreconditionFailed
from xscene.geometry.frames import Matrix, inverse
from xscene.geometry.projection import Intrinsics

NEAR_M, FAR_M = 0.05, 30.0
SHADOW_PX = 1024
SHADOW_FOCAL = 0.42
MAX_WINDOWS = 3
CONTACT_CELL_M = 0.05
PACKAGES = "libegl1 libegl-mesa0 libgl1-mesa-dri"

VERTEX = """#version 330
uniform mat4 clip_from_world;
in vec3 position; in vec3 normal; in vec4 color; in uint instance;
out vec3 world; out vec3 facing; out vec4 paint; flat out uint id;
void main() {
    gl_Position = clip_from_world * vec4(position, 1.0);
    world = position; facing = normal; paint = color; id = instance;
}"""

FRAGMENT = """#version 330
uniform vec3 eye; uniform vec3 forward; uniform vec3 gain;
uniform vec3 ambient; uniform vec3 lamp; uniform vec3 lamp_at; uniform vec3 day;
uniform int num_windows; uniform vec3 window_at[3]; uniform vec3 window_in[3];
uniform mat4 shadow_from_world; uniform sampler2DShadow shadows;
uniform sampler2D contact; uniform vec4 contact_area;
in vec3 world; in vec3 facing; in vec4 paint; flat in uint id;
layout(location = 0) out vec4 rgb; layout(location = 1) out vec2 depth_and_id;

float hash(vec2 p) { return fract(sin(dot(p, vec2(12.9898, 78.233))) * 43758.5453); }

vec3 pattern(vec3 base, int kind) {
    vec2 p = world.xy;
    if (kind == 1) {
        float row = floor(p.y / 0.14);
        float plank = floor(p.x / 1.2 + 0.37 * mod(row, 3.0));
        float seam = step(0.03, fract(p.y / 0.14));
        return base * (0.86 + 0.22 * hash(vec2(row, plank))) * mix(0.8, 1.0, seam);
    }
    if (kind == 2) {
        vec2 f = fract(p / 0.4);
        return base * mix(0.75, 0.97 + 0.05 * hash(floor(p / 0.4)), step(0.02, min(f.x, f.y)));
    }
    if (kind == 3) return base * (0.88 + 0.2 * hash(floor(p / 0.015)));
    return base;
}

float lit(vec3 n) {
    vec4 at = shadow_from_world * vec4(world + 0.015 * n, 1.0);
    if (at.w < 0.05) return 1.0;
    vec3 p = at.xyz / at.w * 0.5 + 0.5;
    if (any(lessThan(p.xy, vec2(0.0))) || any(greaterThan(p.xy, vec2(1.0)))) return 1.0;
    float sum = 0.0;
    for (int i = 0; i < 4; i++) {
        vec2 shift = (vec2(i & 1, i >> 1) - 0.5) * 0.004;
        sum += texture(shadows, vec3(p.xy + shift, p.z - 0.0012));
    }
    return sum * 0.25;
}

void main() {
    int kind = int(paint.a * 255.0 + 0.5);
    vec3 base = pattern(paint.rgb * paint.rgb, kind);
    vec3 view = normalize(eye - world);
    vec3 n = normalize(facing);
    if (dot(n, view) < 0.0) n = -n;
    vec3 to_lamp = lamp_at - world;
    float reach = dot(to_lamp, to_lamp);
    vec3 light = ambient * (0.8 + 0.2 * n.z);
    light += lamp * max(dot(n, to_lamp) * inversesqrt(reach), 0.0) * 2.2 / (1.0 + 0.28 * reach) * lit(n);
    for (int i = 0; i < num_windows; i++) {
        vec3 to_window = window_at[i] - world;
        float d2 = dot(to_window, to_window);
        vec3 l = to_window * inversesqrt(d2);
        light += day * max(dot(n, l), 0.0) * max(dot(-l, window_in[i]), 0.0) * 2.4 / (1.0 + 0.3 * d2);
    }
    float shade = texture(contact, (world.xy - contact_area.xy) * contact_area.zw).r;
    light *= mix(shade, 1.0, smoothstep(0.0, 0.6, world.z));
    if (kind == 4) light = vec3(0.35) + 1.4 * day + 0.3 * lamp;
    rgb = vec4(sqrt(clamp(base * light * gain, 0.0, 1.0)), 1.0);
    depth_and_id = vec2(dot(world - eye, forward), float(id));
}"""


@dataclass(frozen=True, eq=False)
class Frame:
    """What a camera sees: colours (H,W,3), depth (H,W) in metres along its axis, and ids (H,W).

    Depth and id are 0 where nothing is.
    """

    rgb: NDArray[np.uint8]
    depth: NDArray[np.float32]
    ids: NDArray[np.uint16]


@dataclass(frozen=True, kw_only=True, eq=False)
class Stage:
    """All that is to be seen: the mesh, the id (V,) of each vertex, lamp and windows, where shade gathers."""

    shape: Shape
    ids: NDArray[np.uint16]
    lamp_at: Matrix
    """(3,)"""
    windows: Sequence[tuple[Matrix, Matrix]]
    """Middle (3,) and direction into the room (3,) of each."""
    contact: NDArray[np.float32]
    """How much light reaches the floor, (W,D) of cells of CONTACT_CELL_M, 0 to 1."""
    origin: Matrix
    """(2,), where the first of these cells begins."""


class Renderer:
    """One graphics context and the stage that is loaded in it."""

    def __init__(self) -> None:
        self._gl = _context()
        self._gl.enable(self._gl.DEPTH_TEST)
        self._program = self._gl.program(vertex_shader=VERTEX, fragment_shader=FRAGMENT)
        self._shadow_program = self._gl.program(
            vertex_shader="#version 330\nuniform mat4 clip_from_world; in vec3 position;"
            "void main() { gl_Position = clip_from_world * vec4(position, 1.0); }",
            fragment_shader="#version 330\nvoid main() {}",
        )
        self._targets: dict[tuple[int, int], Any] = {}
        self._held: list[Any] = []
        shadow = self._gl.depth_texture((SHADOW_PX, SHADOW_PX))
        shadow.compare_func = "<="
        shadow.repeat_x = shadow.repeat_y = False
        self._shadow, self._shadow_target = shadow, self._gl.framebuffer(depth_attachment=shadow)

    @property
    def device(self) -> str:
        """What draws: the name of the GPU, or of the software that stands in for it."""
        return str(self._gl.info["GL_RENDERER"])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._release()
        self._gl.release()

    def load(self, stage: Stage) -> None:
        """Replace what is on the stage."""
        self._release()
        vertices = _interleaved(stage.shape, stage.ids)
        buffer, index = self._gl.buffer(vertices.tobytes()), self._gl.buffer(stage.shape.faces.tobytes())
        layout = [(buffer, "3f4 3f4 4f1 1u4", "position", "normal", "color", "instance")]
        self._array = self._gl.vertex_array(self._program, layout, index)
        caster = self._gl.vertex_array(self._shadow_program, [(buffer, "3f4 20x1", "position")], index)
        contact = self._gl.texture(stage.contact.shape, 1, np.ascontiguousarray(stage.contact.T), dtype="f4")
        contact.repeat_x = contact.repeat_y = False
        self._held = [self._array, caster, buffer, index, contact]
        shadow_from_world = _shadow_matrix(stage.lamp_at)
        self._shadow_target.clear()
        self._shadow_target.use()
        _set(self._shadow_program, {"clip_from_world": shadow_from_world})
        caster.render()
        self._shadow.use(0)
        contact.use(1)
        area = 1 / (np.array(stage.contact.shape) * CONTACT_CELL_M)
        _set(
            self._program,
            {
                "shadow_from_world": shadow_from_world,
                "lamp_at": stage.lamp_at,
                "contact_area": (*stage.origin, *area),
            },
        )
        self._program["shadows"].value, self._program["contact"].value = 0, 1
        self._set_windows(stage.windows[:MAX_WINDOWS])

    def _set_windows(self, windows: Sequence[tuple[Matrix, Matrix]]) -> None:
        self._program["num_windows"].value = len(windows)
        places = np.zeros((2, MAX_WINDOWS, 3), dtype="f4")
        for at, window in enumerate(windows):
            places[:, at] = window
        for name, values in zip(("window_at", "window_in"), places, strict=True):
            self._program[name].write(values.tobytes())

    def render(
        self, camera_to_world: Matrix, intrinsics: Intrinsics, light: Light, gain: Sequence[float]
    ) -> Frame:
        """The loaded stage as a camera sees it under a light; the gain is for red, green and blue."""
        size = (intrinsics.width, intrinsics.height)
        target = self._target(size)
        target.use()
        target.clear()
        clip = _projection(intrinsics) @ inverse(camera_to_world)
        _set(
            self._program,
            {
                "clip_from_world": clip,
                "eye": camera_to_world[:3, 3],
                "forward": camera_to_world[:3, 2],
                "ambient": light.ambient,
                "lamp": light.lamp,
                "day": light.day,
                "gain": gain,
            },
        )
        self._array.render()
        shape = (intrinsics.height, intrinsics.width)
        rgb = np.frombuffer(target.read(components=3, attachment=0), np.uint8).reshape(*shape, 3)
        raw = np.frombuffer(target.read(components=2, attachment=1, dtype="f4"), np.float32)
        depth, ids = raw.reshape(*shape, 2).transpose(2, 0, 1)
        return Frame(rgb, np.ascontiguousarray(depth), ids.astype(np.uint16))

    def _target(self, size: tuple[int, int]) -> Any:
        if size not in self._targets:
            colors = [self._gl.texture(size, 4), self._gl.texture(size, 2, dtype="f4")]
            self._targets[size] = self._gl.framebuffer(colors, self._gl.depth_renderbuffer(size))
        return self._targets[size]

    def _release(self) -> None:
        for item in self._held:
            item.release()
        self._held = []


def _context() -> Any:
    try:
        import moderngl
    except ModuleNotFoundError as error:
        raise ExtraMissing.named("rendering", "rooms") from error
    try:
        return moderngl.create_context(require=330, standalone=True, backend="egl")  # type: ignore[arg-type]
    except Exception as error:
        raise PreconditionFailed(f"no EGL context ({error}): apt-get install {PACKAGES}") from error


def _set(program: Any, values: Mapping[str, Any]) -> None:
    """Write uniforms; matrices, which GL wants column after column, are turned."""
    for name, value in values.items():
        array = np.asarray(value, dtype="f4")
        program[name].write(np.ascontiguousarray(array.T).tobytes())


def _interleaved(shape: Shape, ids: NDArray[np.uint16]) -> NDArray[Any]:
    layout = [("position", "f4", 3), ("normal", "f4", 3), ("color", "u1", 4), ("instance", "u4")]
    vertices = np.empty(len(shape.vertices), dtype=layout)
    vertices["position"], vertices["normal"] = shape.vertices, shape.normals
    vertices["color"][:, :3], vertices["color"][:, 3] = shape.colors, shape.surfaces
    vertices["instance"] = ids
    return vertices


def _projection(intrinsics: Intrinsics) -> Matrix:
    """Camera coordinates to clip space, upside down: GL's first row is the lowest, an image's the highest."""
    width, height = intrinsics.width, intrinsics.height
    span = FAR_M - NEAR_M
    return np.array(
        (
            (2 * intrinsics.fx / width, 0, (2 * intrinsics.cx + 1) / width - 1, 0),
            (0, 2 * intrinsics.fy / height, (2 * intrinsics.cy + 1) / height - 1, 0),
            (0, 0, (FAR_M + NEAR_M) / span, -2 * FAR_M * NEAR_M / span),
            (0, 0, 1, 0),
        )
    )


def _shadow_matrix(lamp_at: Matrix) -> Matrix:
    """World to clip space of a wide view from the lamp straight down."""
    down = np.array(((1.0, 0, 0, 0), (0, -1.0, 0, 0), (0, 0, -1.0, 0), (0, 0, 0, 1.0)))
    down[:3, 3] = -down[:3, :3] @ lamp_at
    span = FAR_M - NEAR_M
    lens = np.diag((SHADOW_FOCAL, SHADOW_FOCAL, (FAR_M + NEAR_M) / span, 0.0))
    lens[2, 3], lens[3, 2] = -2 * FAR_M * NEAR_M / span, 1.0
    return np.asarray(lens @ down)
