"""Which models there are, and from a name or a path to a file that the counter can run.

Contract with the counter: :func:`resolve`. Everything else serves ``headroom models``.
"""

from __future__ import annotations

import hashlib
import logging
import os
import tomllib
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from .decoders import LAYOUTS, CellCentre, Size
from .errors import ModelError
from .optimise import SCORE_FLOOR, VERSION, Recipe, file_sha256, layout_of, load, metadata, optimise

__all__ = ["Mode", "ModelEntry", "ModelError", "Registry", "ResolvedModel", "registry", "resolve"]

log = logging.getLogger(__name__)

Mode = Literal["door", "room"]
Precision = Literal["fp32", "int8"]
MODES: tuple[Mode, ...] = ("door", "room")
HERE = Path(__file__).parent
WEIGHTS = HERE / "weights"
DEFAULT_SIZES: dict[Mode, Size] = {"door": (416, 256), "room": (960, 544)}

Score = Annotated[float, Field(ge=SCORE_FLOOR, lt=1)]
Side = Annotated[int, Field(ge=32, le=4096, multiple_of=32)]
Triple = tuple[float, float, float]


class _Centre(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    cells: float = 0.5
    pixels: float = 0.0


class ModelEntry(BaseModel):
    """One model of ``registry.toml``; the fields are explained at the head of that file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str
    licence: str
    origin: str
    trained_on: str = ""
    note: str = ""
    url: str | None = None
    bytes: Annotated[int, Field(gt=0)] | None = None
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    stand_in: str | None = None
    ships: bool = False
    weights: dict[Mode, str] = {}
    weights_int8: dict[Mode, str] = {}
    layout: str | None = None
    mean: Triple = (0.0, 0.0, 0.0)
    std: Triple = (1.0, 1.0, 1.0)
    rgb: bool = False
    centre: _Centre = _Centre()
    nms_iou: Annotated[float, Field(gt=0, lt=1)] = 0.6
    sizes: dict[Mode, tuple[Side, Side]] = DEFAULT_SIZES
    thresholds: dict[Mode, Score]
    low_threshold: Score = SCORE_FLOOR

    @model_validator(mode="after")
    def _complete(self) -> ModelEntry:
        if self.ships and set(self.weights) != set(MODES):
            raise ValueError("a model that ships names its weights for the modes door and room")
        if not self.ships and not (self.url and self.bytes and self.sha256):
            raise ValueError("a model that does not ship needs url, bytes and sha256")
        if self.layout is not None and self.layout not in LAYOUTS:
            raise ValueError(f"layout {self.layout!r} is not one of {', '.join(LAYOUTS)}")
        return self

    def recipe(self, mode: Mode) -> Recipe:
        """How to optimise the published file for a mode."""
        return Recipe(
            mean=self.mean,
            std=self.std,
            rgb=self.rgb,
            layout=self.layout,
            centre=CellCentre(self.centre.cells, self.centre.pixels),
            nms_iou=self.nms_iou,
            threshold=self.thresholds[mode],
            low_threshold=self.low_threshold,
        )


class Registry(BaseModel):
    """The whole of ``registry.toml``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    defaults: dict[Mode, str]
    models: dict[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")], ModelEntry]

    @model_validator(mode="after")
    def _defaults_exist(self) -> Registry:
        for mode in MODES:
            if self.defaults.get(mode) not in self.models:
                raise ValueError(f"defaults.{mode}: {self.defaults.get(mode)!r} is not a model of this registry")
        return self

    def entry(self, name: str) -> ModelEntry:
        """The entry of a name.

        Raises:
            ModelError: there is none; the message lists the names.
        """
        try:
            return self.models[name]
        except KeyError:
            known = ", ".join(sorted(self.models))
            raise ModelError(
                f"model {name!r} is not known. Known models: {known}. A file is named by its path, e.g. ./{name}.onnx"
            ) from None


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """A file that the counter can run: ``frame`` in, ``detections`` out (see :mod:`models.optimise`).

    Attributes:
        name: as in the registry, or the stem of the file.
        path: the optimised file.
        threshold: score from which a box starts a person.
        low_threshold: score from which a box may continue one.
        input_size: width and height of the network's input. A frame that already has the size which the letterbox
            would give it (same shape, one side equal) is not resized again.
        precision: ``fp32`` or ``int8``.
        alternatives: the same model in another precision, to be chosen by a self-test on the CPU at hand.
    """

    name: str
    path: Path
    threshold: float
    low_threshold: float
    input_size: Size
    precision: Precision = "fp32"
    alternatives: tuple[ResolvedModel, ...] = ()


@cache
def registry(path: Path = HERE / "registry.toml") -> Registry:
    """The registry of models.

    Raises:
        ModelError: the file is missing or wrong; the message names the field.
    """
    try:
        return Registry.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise ModelError(f"{path}: the registry of models is missing; install headroom again") from None
    except tomllib.TOMLDecodeError as error:
        raise ModelError(f"{path}: not valid TOML: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise ModelError(f"{path}: {field}: {first['msg']}") from error


def cache_folder() -> Path:
    """Where pulled and optimised models lie: ``models`` in ``$HEADROOM_CACHE``, by default in ``~/.cache/headroom``."""
    named = os.environ.get("HEADROOM_CACHE")
    if named:
        return Path(named).expanduser() / "models"
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "headroom" / "models"


def pulled_path(name: str) -> Path:
    """Where ``pull`` puts the published file of a model."""
    return cache_folder() / f"{name}.onnx"


def stand_in_path(entry: ModelEntry) -> Path | None:
    """The file of ``$HEADROOM_DATA/teachers`` that stands in for the download, where it is there and equal to it."""
    data = os.environ.get("HEADROOM_DATA")
    if not data or not entry.stand_in:
        return None
    path = Path(data) / "teachers" / entry.stand_in
    return path if path.is_file() and file_sha256(path) == entry.sha256 else None


def published_path(name: str, entry: ModelEntry) -> Path:
    """The published file of a model that does not ship, from the cache or from the data folder.

    Raises:
        ModelError: it is in neither, or the cached file is not what the registry says.
    """
    path = pulled_path(name)
    if path.is_file():
        if file_sha256(path) != entry.sha256:
            raise ModelError(f"{path}: sha256 is not that of {name!r}; fetch it again: headroom models pull {name}")
        return path
    stand_in = stand_in_path(entry)
    if stand_in is None:
        raise ModelError(f"model {name!r} is not on this machine; fetch it: headroom models pull {name}")
    return stand_in


def resolve(name_or_path: str | None, mode: Mode) -> ResolvedModel:
    """From a name, a path or nothing to an optimised file, optimising it into the cache where that is still to do.

    Args:
        name_or_path: a name of the registry, the path of an ONNX file (optimised, or published with a known layout),
            or None for the default of the mode.
        mode: ``door`` or ``room``.

    Raises:
        ModelError: unknown, not on this machine, damaged, or of no known layout.
    """
    if mode not in MODES:
        raise ModelError(f"mode {mode!r} is not known; it is door or room")
    name = name_or_path if name_or_path is not None else registry().defaults[mode]
    if looks_like_path(name):
        return _resolve_path(Path(name).expanduser(), mode)
    entry = registry().entry(name)
    if entry.ships:
        return _shipped(name, entry, mode)
    return _optimised(name, published_path(name, entry), entry.recipe(mode), entry.sizes[mode], mode)


def looks_like_path(text: str) -> bool:
    """Whether the user means a file and not a name."""
    return text.lower().endswith(".onnx") or os.sep in text


def optimised_path(name: str, source: Path, recipe: Recipe, size: Size, mode: Mode) -> Path:
    """Where the optimised form of ``source`` lies in the cache, whether it is there yet or not.

    Its name holds a digest of everything that goes into it: another source, recipe or size is another file.
    """
    content = f"{file_sha256(source)} {recipe!r} {size} {mode} {VERSION}"
    digest = hashlib.sha256(content.encode()).hexdigest()[:12]
    return cache_folder() / "optimised" / f"{name}-{mode}-{digest}.onnx"


def _optimised(name: str, source: Path, recipe: Recipe, size: Size, mode: Mode) -> ResolvedModel:
    """The optimised form from the cache, made where it is not there yet or damaged."""
    target = optimised_path(name, source, recipe, size, mode)
    if target.is_file():
        try:
            return with_int8(described(name, target))
        except ModelError as error:
            log.warning("%s; making it anew", error)
            target.unlink(missing_ok=True)
    make_optimised(name, source, target, recipe, size, mode)
    return with_int8(described(name, target))


def make_optimised(name: str, source: Path, target: Path, recipe: Recipe, size: Size, mode: Mode) -> Path:
    """Optimise ``source`` into ``target``.

    Raises:
        ModelError: no known layout, or ``target`` cannot be written.
    """
    log.info("optimising %s for %dx%d", name, *size)
    try:
        optimise(source, target, size=size, recipe=recipe, properties={"headroom.model": name, "headroom.mode": mode})
    except OSError as error:
        raise ModelError(
            f"{target}: cannot write the optimised model: {error.strerror}; set HEADROOM_CACHE to a folder that can "
            f"be written"
        ) from error
    return target


def described(name: str, path: Path) -> ResolvedModel:
    """Read from an optimised file what the counter wants to know.

    Raises:
        ModelError: damaged, not optimised, or its metadata are not what they should be.
    """
    properties = metadata(load(path))
    if "headroom.optimised_by" not in properties:
        raise ModelError(f"{path}: not an optimised model; run: headroom models optimise {path}")
    try:
        width, height = (int(part) for part in properties["headroom.input_size"].split("x"))
        precision: Precision = "int8" if properties.get("headroom.precision") == "int8" else "fp32"
        return ResolvedModel(
            name=properties.get("headroom.model", name),
            path=path,
            threshold=float(properties["headroom.threshold"]),
            low_threshold=float(properties["headroom.low_threshold"]),
            input_size=(width, height),
            precision=precision,
        )
    except (KeyError, ValueError) as error:
        raise ModelError(f"{path}: a headroom field of its metadata is wrong ({error}); optimise it again") from error


def int8_path(path: Path) -> Path:
    """Where the int8 twin of an optimised file lies."""
    return path.with_name(f"{path.stem}-int8.onnx")


def with_int8(model: ResolvedModel) -> ResolvedModel:
    """The model with its int8 twin as an alternative, where ``headroom models optimise --int8`` has kept one."""
    twin = int8_path(model.path)
    return replace(model, alternatives=(described(model.name, twin),)) if twin.is_file() else model


def _shipped(name: str, entry: ModelEntry, mode: Mode) -> ResolvedModel:
    path = WEIGHTS / entry.weights[mode]
    if not path.is_file():
        raise ModelError(f"{path}: the weights of {name!r} are missing; install headroom again")
    model = described(name, path)
    if mode not in entry.weights_int8:
        return model
    twin = WEIGHTS / entry.weights_int8[mode]
    return replace(model, alternatives=(described(name, twin),)) if twin.is_file() else model


# What the families of a layout are usually fed; said in the log, since the file itself does not say.
_USUAL = {
    "yolox": Recipe(),
    "dets-labels": Recipe(mean=(103.53, 116.28, 123.675), std=(57.375, 57.12, 58.395)),
    "gfl": Recipe(mean=(103.53, 116.28, 123.675), std=(57.375, 57.12, 58.395)),
    "nanodet-plus": Recipe(
        mean=(103.53, 116.28, 123.675), std=(57.375, 57.12, 58.395), centre=CellCentre(0.0, 0.0)
    ),
    "boxes-scores": Recipe(std=(255.0, 255.0, 255.0), rgb=True),
    "yolo-columns": Recipe(std=(255.0, 255.0, 255.0), rgb=True),
}  # fmt: skip


def recipe_for_file(path: Path, mode: Mode, layout: str | None = None) -> tuple[str, Recipe, Size]:
    """Name, recipe and size for a published file named by path.

    A file that the registry knows by its sha256 gets the registry's recipe; another one gets what is usual for its
    layout, which ``headroom models optimise`` can be told otherwise.

    Raises:
        ModelError: damaged, or of no known layout.
    """
    if not path.is_file():
        raise ModelError(f"{path}: there is no such model file")
    digest = file_sha256(path)
    for name, entry in registry().models.items():
        if entry.sha256 == digest:
            return name, entry.recipe(mode), entry.sizes[mode]
    layout = layout or layout_of(path, DEFAULT_SIZES[mode])
    log.warning("%s: read as %s with the usual normalisation; headroom models optimise can set another", path, layout)
    return path.stem, replace(_USUAL[layout], layout=layout), DEFAULT_SIZES[mode]


def _resolve_path(path: Path, mode: Mode) -> ResolvedModel:
    if not path.is_file():
        raise ModelError(f"{path}: there is no such model file")
    if "headroom.optimised_by" in metadata(load(path)):
        return with_int8(described(path.stem, path))
    name, recipe, size = recipe_for_file(path, mode)
    return _optimised(name, path, recipe, size, mode)
