"""Modelled furniture, things and people out of Sweet Home 3D's furniture libraries (``.sh3f``).

Such a library is a zip file with ``PluginFurnitureCatalog.properties`` (``key#n=value`` for model ``n``: name,
size in centimetres) and Wavefront models with their pictures. Those that training uses are free to use: Blend
Swap CC-0 (CC0 1.0), Blend Swap CC-BY, Scopia (CC BY 3.0), Kator Legaz and Reallusion (CC BY 3.0 US); Debian carries
them as ``sweethome3d-furniture``. Chairs, plants, coats, bicycles and cats are what detectors take for people, and the
Reallusion figures wear photographed faces and clothes.

Pictures on models become one colour a triangle: enough at the size of things in a room.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
from numpy.typing import NDArray

from .materials import SPECKLE, part
from .poses import Pose

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
U8 = NDArray[np.uint8]

MOST_TRIANGLES = 15000
_MOST_TRIANGLES_OF_PEOPLE = 20000
_LEVELS = 16  # a channel: colours of a model are rounded to that
_PEOPLE = "reallusion"
_NOT_ON_FLOORS = re.compile(
    r"door|window|stair|pool|rail|crossing|parking|arrow|roof|carpet|rug|mat\b|tatami|elevator|hedge|sidewalk", re.I
)
_LIKE_PEOPLE = re.compile(r"mannequin|^doll$|^male$|^female$|snowman|^suit$|statue|punching", re.I)
_SEAT = re.compile(r"\b(arm)?chair\b|\bseat\b", re.I)
_NO_SEAT = re.compile(r"deck|high|relax|beach|baby|child|wheel", re.I)


@dataclass(frozen=True)
class Entry:
    """One model of a library: where it is and what is said of it; ``size`` is width, height, depth in metres."""

    library: Path
    path: str
    name: str
    size: tuple[float, float, float]
    rotation: tuple[float, ...] | None
    elevated: bool


@dataclass(frozen=True)
class Model:
    """``vertices`` ``[V, 3]`` metres, standing on y = 0 around the origin, front to +z.

    ``triangles`` ``[T, 3]``, the material of each ``part_of`` ``[T]`` and the ``parts`` ``[P, 12]``.
    """

    vertices: F32
    triangles: I32
    part_of: I32
    parts: F32


@dataclass(frozen=True)
class Figure:
    """A modelled person in the one pose that it has; stands where a ``people.Character`` could."""

    rest: F32
    triangles: I32
    part_of: I32
    parts: F32
    head_vertices: NDArray[np.bool_]
    sits: bool

    def posed(self, pose: Pose) -> F32:
        """The vertices ``[V, 3]`` metres; of the pose only the height of the seat matters."""
        vertices = self.rest.copy()
        if self.sits and pose.seat is not None:
            vertices[:, 1] *= pose.seat / _SEAT_OF_FIGURES
        return vertices


_SEAT_OF_FIGURES = 0.45
_STANDING = re.compile(r"/(holding)?(fe)?male\d|/\w+standing", re.I)
_SITTING = re.compile(r"/(sitfemale03|sitmale0[12]|girlsittingtable|boysitting)/", re.I)


class Catalogue:
    """What several libraries hold, sorted by use: ``chairs``, ``floor`` (things), ``table`` (small things), people.

    Args:
        files: ``.sh3f`` files.

    Raises:
        ValueError: a file is not such a library.
    """

    def __init__(self, files: Iterable[Path]) -> None:
        entries = [entry for file in sorted(files) for entry in read_entries(file)]
        people = [e for e in entries if _PEOPLE in e.path]
        self.standing = [e for e in people if _STANDING.search(e.path)]
        self.sitting = [e for e in people if _SITTING.search(e.path)]  # on chairs
        things = [
            e for e in entries
            if _PEOPLE not in e.path and not e.elevated and not _LIKE_PEOPLE.search(e.name)
            and not _NOT_ON_FLOORS.search(e.name)
        ]  # fmt: skip
        self.chairs = [e for e in things if _is_chair(e)]
        self.floor = [e for e in things if 0.25 <= e.size[1] <= 2.6 and max(e.size[0], e.size[2]) <= 2.4
                      and max(e.size) >= 0.4]  # fmt: skip
        self.table = [e for e in things if max(e.size) < 0.5 and e.size[1] >= 0.05]
        self.large = [e for e in things if 2.4 < max(e.size[0], e.size[2]) <= 5.0 and e.size[1] <= 2.6]
        self.model = lru_cache(maxsize=600)(_load)
        self.figure = lru_cache(maxsize=64)(_figure)


def _is_chair(e: Entry) -> bool:
    return bool(
        _SEAT.search(e.name) and not _NO_SEAT.search(e.name)
        and 0.35 <= e.size[0] <= 0.95 and 0.7 <= e.size[1] <= 1.35 and e.size[2] <= 1.0
    )  # fmt: skip


def read_entries(file: Path) -> list[Entry]:
    """The models that a library lists."""
    try:
        with zipfile.ZipFile(file) as library:
            text = library.read("PluginFurnitureCatalog.properties").decode("latin-1")
    except (zipfile.BadZipFile, KeyError, OSError) as error:
        raise ValueError(f"{file}: not a furniture library (.sh3f) of Sweet Home 3D: {error}") from None
    fields: dict[int, dict[str, str]] = {}
    for key, number, value in re.findall(r"^(\w+)#(\d+)\s*=\s*(.*?)\s*$", text, re.M):
        fields.setdefault(int(number), {})[key] = value
    found = []
    for k in sorted(fields):
        f = fields[k]
        if "model" not in f or f.get("doorOrWindow") == "true":
            continue
        width, height, depth = (float(f[n]) / 100 for n in ("width", "height", "depth"))
        turn = tuple(float(v) for v in f["modelRotation"].split()) if "modelRotation" in f else None
        found.append(
            Entry(file, f["model"].lstrip("/"), f.get("name", ""), (width, height, depth), turn,
                  float(f.get("elevation", 0) or 0) > 0)
        )  # fmt: skip
    return found


def _load(entry: Entry) -> Model | None:
    """The model of an entry, or None where it has too many triangles or nothing that can be drawn."""
    most = _MOST_TRIANGLES_OF_PEOPLE if _PEOPLE in entry.path else MOST_TRIANGLES
    with zipfile.ZipFile(entry.library) as library:
        read = read_obj(library, entry.path, most)
    if read is None:
        return None
    vertices, triangles, colours = read
    if entry.rotation is not None:
        vertices = vertices @ np.array(entry.rotation, np.float32).reshape(3, 3).T
    used = np.unique(triangles)
    low, high = vertices[used].min(0), vertices[used].max(0)
    extent = np.maximum(high - low, 1e-6)
    middle = (low + high) / 2
    middle[1] = low[1]
    vertices = ((vertices - middle) * (np.array(entry.size) / extent)).astype(np.float32)
    rounded = np.round(colours * (_LEVELS - 1)).astype(np.int32)
    palette, part_of = np.unique(rounded, axis=0, return_inverse=True)
    parts = []
    for colour in palette:
        linear = (colour / (_LEVELS - 1) * 0.95 + 0.01) ** 2.2
        parts.append(part(tuple(linear), tuple(linear * 0.88), SPECKLE, 40.0, 0.02))
    return Model(vertices, triangles, part_of.reshape(-1).astype(np.int32), np.stack(parts))


def _figure(entry: Entry) -> Figure | None:
    model = _load(entry)
    if model is None:
        return None
    top = float(model.vertices[:, 1].max())
    head = model.vertices[:, 1] > top - 0.26
    rest = model.vertices
    sits = bool(_SITTING.search(entry.path))
    if sits:  # the seat is under the hips, which are below the head, not in the middle of the box
        shift = rest[head].mean(0)
        rest = (rest - np.array([shift[0], 0, shift[2]], np.float32)).astype(np.float32)
    return Figure(rest, model.triangles, model.part_of, model.parts, head, sits)


def read_obj(library: zipfile.ZipFile, path: str, most: int) -> tuple[F32, I32, F32] | None:
    """A Wavefront model: vertices ``[V, 3]``, triangles ``[T, 3]``, colour of each ``[T, 3]`` (sRGB, 0 to 1)."""
    vertices: list[list[float]] = []
    textures: list[list[float]] = []
    triangles: list[tuple[int, int, int]] = []
    uv: list[tuple[int, int, int]] = []
    material_of: list[int] = []
    names: list[str] = []
    tables: list[str] = []
    material = -1
    for line in library.read(path).decode("latin-1").splitlines():
        word, _, rest = line.partition(" ")
        if word == "v":
            vertices.append([float(v) for v in rest.split()[:3]])
        elif word == "vt":
            textures.append([float(v) for v in rest.split()[:2]])
        elif word == "usemtl":
            names.append(rest.strip())
            material = len(names) - 1
        elif word == "mtllib":
            tables.append(rest.strip())
        elif word == "f":
            corners = [c.split("/") for c in rest.split()]
            at = [_index(c[0], len(vertices)) for c in corners]
            tex = [_index(c[1], len(textures)) if len(c) > 1 and c[1] else -1 for c in corners]
            for k in range(1, len(at) - 1):
                triangles.append((at[0], at[k], at[k + 1]))
                uv.append((tex[0], tex[k], tex[k + 1]))
                material_of.append(material)
            if len(triangles) > most:
                return None
    if not triangles:
        return None
    folder = PurePosixPath(path).parent
    looks = {}
    for table in tables:
        looks.update(_read_mtl(library, folder / table))
    which = np.array(material_of)
    where, corner = np.array(textures, np.float32).reshape(-1, 2), np.array(uv)
    colours = np.full((len(triangles), 3), 0.7, np.float32)
    solid = np.ones(len(triangles), bool)
    for k, name in enumerate(names):
        mine = np.flatnonzero(which == k)
        if not len(mine) or name not in looks:
            continue
        colour, opacity, picture = looks[name]
        colours[mine] = colour
        solid[mine] = opacity >= 0.5
        if picture is not None and len(where):
            mapped = mine[(corner[mine] >= 0).all(1)]
            shade, covers = _sample(picture, where[corner[mapped]])
            colours[mapped] = shade
            solid[mapped] &= covers
    if not solid.any():
        return None
    return np.array(vertices, np.float32), np.array(triangles, np.int32)[solid], colours[solid]


def _index(text: str, count: int) -> int:
    n = int(text)
    return n - 1 if n > 0 else count + n


_POINTS = np.array([[1, 1, 1], [4, 1, 1], [1, 4, 1], [1, 1, 4], [2, 2, 0.2], [0.2, 2, 2], [2, 0.2, 2]], np.float32)
_POINTS /= _POINTS.sum(1, keepdims=True)


def _sample(picture: U8, corners: F32) -> tuple[F32, NDArray[np.bool_]]:
    """Mean colour ``[T, 3]`` RGB of triangles ``[T, 3, 2]`` on a picture, and whether they are there at all."""
    height, width = picture.shape[:2]
    at = np.einsum("pc,tcx->tpx", _POINTS, corners) % 1.0
    column = np.minimum((at[..., 0] * width).astype(int), width - 1)
    row = np.minimum(((1 - at[..., 1]) * height).astype(int), height - 1)
    values = picture[row, column].astype(np.float32) / 255
    if picture.shape[2] == 4:
        cover = values[..., 3:]
        return (values[..., :3] * cover).sum(1) / np.maximum(cover.sum(1), 1e-3), cover.mean((1, 2)) >= 0.4
    return values.mean(1), np.ones(len(corners), bool)


Look = tuple[Sequence[float], float, U8 | None]


def _read_mtl(library: zipfile.ZipFile, path: PurePosixPath) -> dict[str, Look]:
    """Colour, opacity and picture (RGB or RGBA) of every material of a table."""
    try:
        text = library.read(str(path)).decode("latin-1")
    except KeyError:
        return {}
    found: dict[str, Look] = {}
    name = ""
    for line in text.splitlines():
        word, _, rest = line.strip().partition(" ")
        rest = rest.strip()
        if word == "newmtl":
            name = rest
            found[name] = ((0.7, 0.7, 0.7), 1.0, None)
        elif name:
            colour, opacity, picture = found[name]
            if word == "Kd":
                found[name] = ([float(v) for v in rest.split()[:3]], opacity, picture)
            elif word == "d":
                found[name] = (colour, float(rest.split()[-1]), picture)
            elif word == "map_Kd":
                found[name] = (colour, opacity, _picture(library, path.parent / rest.split(" ")[-1]))
    return found


def _picture(library: zipfile.ZipFile, path: PurePosixPath) -> U8 | None:
    try:
        data = np.frombuffer(library.read(str(path)), np.uint8)
    except KeyError:
        return None
    image = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    if image is None or image.ndim != 3:
        return None
    return np.ascontiguousarray(image[:, :, [2, 1, 0, 3][: image.shape[2]]], np.uint8)
