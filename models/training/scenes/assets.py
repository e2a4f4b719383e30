"""Readers for the CC0 MakeHuman assets: base mesh, shape targets, rig, clothes, hair, low-polygon bodies.

The file formats are documented by the MakeHuman community; this is an independent reader. Units inside the
files are decimetres, y up, the body looks along +z and its left hand is at +x. What leaves this module is in metres.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]

METRES = 0.1

BONES: tuple[tuple[str, str | None], ...] = (
    ("root", None),
    ("spine05", "root"), ("spine04", "spine05"), ("spine03", "spine04"), ("spine02", "spine03"), ("spine01", "spine02"),
    ("neck01", "spine01"), ("neck02", "neck01"), ("neck03", "neck02"), ("head", "neck03"),
    *(
        (f"{name}.{side}", f"{parent}.{side}" if parent not in {"spine01", "root"} else parent)
        for side in ("L", "R")
        for name, parent in (
            ("clavicle", "spine01"), ("shoulder01", "clavicle"), ("upperarm01", "shoulder01"),
            ("upperarm02", "upperarm01"), ("lowerarm01", "upperarm02"), ("lowerarm02", "lowerarm01"),
            ("wrist", "lowerarm02"), ("pelvis", "root"), ("upperleg01", "pelvis"), ("upperleg02", "upperleg01"),
            ("lowerleg01", "upperleg02"), ("lowerleg02", "lowerleg01"), ("foot", "lowerleg02"),
        )
    ),
)  # fmt: skip
"""The bones that are posed, parents first; weights of all others go to their nearest ancestor here."""

BONE_INDEX = {name: i for i, (name, _) in enumerate(BONES)}
PARENTS = tuple(-1 if parent is None else BONE_INDEX[parent] for _, parent in BONES)


@dataclass(frozen=True)
class Wavefront:
    """A mesh file: vertices ``[V, 3]`` float32 as written and triangles ``[T, 3]`` int32, with the group of each."""

    vertices: F32
    triangles: I32
    groups: tuple[str, ...]
    group_of: I32


@dataclass(frozen=True)
class Fitted:
    """A mesh bound to the base mesh: clothes, shoes, hair or a low-polygon body.

    Each vertex is a weighted sum of three base vertices plus an offset that scales with the body.

    Attributes:
        refs: ``[V, 3]`` indices of base vertices.
        weights: ``[V, 3]``, sums to one.
        offsets: ``[V, 3]`` in units of ``scale``.
        scale: per axis (first base vertex, second base vertex, divisor).
        deleted: base vertices hidden below this mesh.
    """

    name: str
    refs: I32
    weights: F32
    offsets: F32
    scale: tuple[tuple[int, int, float], tuple[int, int, float], tuple[int, int, float]]
    triangles: I32
    deleted: frozenset[int]

    def fit(self, base: F32) -> F32:
        """The vertices on a body of this shape: ``[V, 3]``."""
        factor = np.array([abs(base[a, k] - base[b, k]) / d for k, (a, b, d) in enumerate(self.scale)], np.float32)
        corner = base[self.refs]
        return np.einsum("vk,vkc->vc", self.weights, corner) + self.offsets * factor


def read_wavefront(path: Path) -> Wavefront:
    """Read vertices and faces (fans into triangles) of an ``.obj`` file."""
    vertices: list[list[float]] = []
    triangles: list[tuple[int, int, int]] = []
    group_of: list[int] = []
    groups: dict[str, int] = {"": 0}
    current = 0
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith("v "):
            vertices.append([float(x) for x in line.split()[1:4]])
        elif line.startswith("g "):
            current = groups.setdefault(line[2:].strip(), len(groups))
        elif line.startswith("f "):
            corner = [int(word.split("/")[0]) - 1 for word in line.split()[1:]]
            for k in range(1, len(corner) - 1):
                triangles.append((corner[0], corner[k], corner[k + 1]))
                group_of.append(current)
    if not vertices or not triangles:
        raise ValueError(f"{path}: no vertices or faces in it")
    return Wavefront(
        np.array(vertices, np.float32), np.array(triangles, np.int32), tuple(groups), np.array(group_of, np.int32)
    )


def _ranges(words: list[str]) -> set[int]:
    """Vertex numbers out of ``12 - 15 20 ...``."""
    numbers: set[int] = set()
    last: int | None = None
    to_range = False
    for word in words:
        if word == "-":
            to_range = True
            continue
        value = int(word)
        if to_range and last is not None:
            numbers.update(range(last, value + 1))
        else:
            numbers.add(value)
        last, to_range = value, False
    return numbers


def read_fitted(path: Path) -> Fitted:
    """Read a ``.mhclo`` or ``.proxy`` file and the mesh that lies beside it."""
    scale: dict[str, tuple[int, int, float]] = {}
    rows: list[tuple[list[int], list[float], list[float]]] = []
    deleted: list[str] = []
    section = ""
    name = path.stem
    obj_file = path.with_suffix(".obj").name
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if words[0][0].isalpha():
            section = words[0] if words[0] in {"verts", "delete_verts"} else section  # other keys may stand between
            if words[0] in {"x_scale", "y_scale", "z_scale"}:
                scale[words[0][0]] = (int(words[1]), int(words[2]), float(words[3]))
            elif words[0] == "name":
                name = words[1]
            elif words[0] == "obj_file":
                obj_file = words[1]
        elif section == "verts":
            if len(words) == 1:
                vertex = int(words[0])
                rows.append(([vertex] * 3, [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]))
            else:
                rows.append(
                    ([int(w) for w in words[:3]], [float(w) for w in words[3:6]], [float(w) for w in words[6:9]])
                )
        elif section == "delete_verts":
            deleted += words
    mesh = read_wavefront(path.with_name(obj_file))
    if len(rows) != len(mesh.vertices):
        raise ValueError(f"{path}: binds {len(rows)} vertices, its mesh has {len(mesh.vertices)}")
    return Fitted(
        name,
        np.array([r[0] for r in rows], np.int32),
        np.array([r[1] for r in rows], np.float32),
        np.array([(r[2] + [0.0, 0.0, 0.0])[:3] for r in rows], np.float32),
        (scale["x"], scale["y"], scale["z"]),
        mesh.triangles,
        frozenset(_ranges(deleted)),
    )


class Assets:
    """What people are made of, read on demand from the folder that holds ``3dobjs``, ``targets``, ``clothes``..."""

    def __init__(self, folder: Path) -> None:
        if not (folder / "3dobjs" / "base.obj").is_file():
            raise FileNotFoundError(f"{folder}: no 3dobjs/base.obj in it; name the folder of the CC0 MakeHuman assets")
        self.folder = folder
        base = read_wavefront(folder / "3dobjs" / "base.obj")
        self.base = base.vertices
        groups = np.array(base.groups)
        self.body_vertices = np.unique(base.triangles[groups[base.group_of] == "body"])
        self.eyes = tuple(
            np.unique(base.triangles[groups[base.group_of] == f"helper-{side}-eye"]) for side in ("l", "r")
        )
        self._targets: dict[str, tuple[I32, F32]] = {}
        rig = json.loads((folder / "rigs" / "default.mhskel").read_text(encoding="utf-8"))
        self.joints = [np.array(rig["joints"][rig["bones"][name]["head"]], np.int32) for name, _ in BONES]
        self.tips = {
            name: np.array(rig["joints"][rig["bones"][name]["tail"]], np.int32)
            for name in ("head", "wrist.L", "wrist.R", "foot.L", "foot.R")
        }
        self.bone_weights = self._collapse(rig)

    def _collapse(self, rig: dict) -> F32:
        """Weights of every base vertex on the posed bones: ``[V, B]``, rows sum to one."""
        path = self.folder / "rigs" / "default_weights.mhw"
        weights = np.zeros((len(self.base), len(BONES)), np.float32)
        for name, pairs in json.loads(path.read_text(encoding="utf-8"))["weights"].items():
            bone: str | None = name
            while bone is not None and bone not in BONE_INDEX:
                bone = rig["bones"][bone]["parent"]
            pair = np.array(pairs, np.float64).reshape(-1, 2)
            np.add.at(
                weights[:, BONE_INDEX[bone or "root"]], pair[:, 0].astype(np.int64), pair[:, 1].astype(np.float32)
            )
        total = weights.sum(1, keepdims=True)
        weights[total[:, 0] == 0, 0] = 1.0
        return weights / np.maximum(weights.sum(1, keepdims=True), 1e-6)

    def target(self, name: str) -> tuple[I32, F32]:
        """A shape target: indices ``[K]`` and offsets ``[K, 3]``; ``name`` relative to ``targets/macrodetails``."""
        if name not in self._targets:
            path = self.folder / "targets" / "macrodetails" / f"{name}.target"
            text = path.read_text(encoding="utf-8")
            rows = " ".join(line for line in text.splitlines() if line and not line.startswith("#"))
            table = np.array(rows.split(), np.float32).reshape(-1, 4)
            self._targets[name] = (table[:, 0].astype(np.int32), table[:, 1:].copy())
        return self._targets[name]

    def morph(self, parts: dict[str, float]) -> F32:
        """The base mesh with targets applied in these shares: ``[V, 3]`` decimetres."""
        shape = self.base.copy()
        for name, share in parts.items():
            if share > 0.01:
                index, offset = self.target(name)
                shape[index] += np.float32(share) * offset
        return shape

    @lru_cache(maxsize=64)  # noqa: B019 - one instance lives as long as the process that renders
    def fitted(self, relative: str) -> Fitted:
        """A bound mesh, e.g. ``clothes/shoes01/shoes01.mhclo``."""
        return read_fitted(self.folder / relative)

    def names(self, kind: str, prefix: str = "") -> list[str]:
        """Relative paths of all bound meshes below ``clothes``, ``hair`` or ``proxymeshes``, sorted."""
        found = [*(self.folder / kind).glob("*/*.mhclo"), *(self.folder / kind).glob("*/*.proxy")]
        return sorted(str(p.relative_to(self.folder)) for p in found if p.stem.startswith(prefix))
