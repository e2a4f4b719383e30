"""A form from an adapter's typed settings, and settings from what a person filled in.

Secrets go one way: a field that holds one is always empty when it is shown, and empty means "as it was".
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined


@dataclass(frozen=True)
class FormField:
    """One field as the template draws it.

    Attributes:
        name: dotted path in the settings, such as ``fields.start``.
        kind: text, number, secret, check, select, lines (one value a line) or pairs (``name = value`` a line).
        options: of a select, value and text.
        secret: what it holds is never shown again.
    """

    name: str
    label: str
    hint: str
    kind: str
    required: bool
    value: str = ""
    options: tuple[str, ...] = ()
    secret: bool = False
    group: str = ""


def form_fields(settings: type[BaseModel], present: Mapping[str, Any] | None = None) -> list[FormField]:
    """The fields of an adapter's settings, filled with what is kept now (``present``; None: a new source)."""
    return list(_fields(settings, present, (), present is not None))


def settings_from(
    settings: type[BaseModel], form: Mapping[str, str], present: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Untyped settings for the adapter to check. An empty secret keeps the one of ``present``.

    A field that was left empty is left out, so that the adapter's default holds.
    """
    return _values(settings, form, present or {}, ())


def _fields(model: type[BaseModel], present: Mapping[str, Any] | None, path: tuple[str, ...], editing: bool) -> Any:
    for name, info in model.model_fields.items():
        inner = _plain(info.annotation)
        value = (present or {}).get(name)
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from _fields(inner, value if isinstance(value, Mapping) else None, (*path, name), editing)
            continue
        kind, options = _kind(inner)
        secret = _is_secret(inner)
        shown = "" if secret else _text(value if value is not None else _default(info), kind)
        yield FormField(
            name=".".join((*path, name)),
            label=info.title or name.replace("_", " ").capitalize(),
            hint=info.description or "",
            kind=kind,
            required=info.is_required() and not (secret and editing),
            value=shown,
            options=options,
            secret=secret,
            group=".".join(path),
        )


def _values(
    model: type[BaseModel], form: Mapping[str, str], present: Mapping[str, Any], path: tuple[str, ...]
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, info in model.model_fields.items():
        inner = _plain(info.annotation)
        dotted = ".".join((*path, name))
        kept = present.get(name)
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            nested = _values(inner, form, kept if isinstance(kept, Mapping) else {}, (*path, name))
            if nested or info.is_required():
                found[name] = nested
            continue
        kind, _ = _kind(inner)
        text = form.get(dotted, "").replace("\r\n", "\n").strip("\n" if kind == "text" else None)
        if kind == "check":
            found[name] = dotted in form
        elif not text and _is_secret(inner):
            if kept is not None:
                found[name] = kept
        elif not text:
            if kind == "text" and dotted in form and _default(info) not in (None, ""):
                found[name] = ""  # a person emptied what has a default
        elif kind == "lines":
            found[name] = [line.strip() for line in text.splitlines() if line.strip()]
        elif kind == "pairs":
            pairs = (line.partition("=") for line in text.splitlines() if line.strip())
            found[name] = {key.strip(): value.strip() for key, _, value in pairs}
        else:
            found[name] = text
    return found


def _plain(annotation: Any) -> Any:
    """The type itself of ``X | None``."""
    if get_origin(annotation) in (Union, types.UnionType):
        return next((arg for arg in get_args(annotation) if arg is not type(None)), str)
    return annotation


def _kind(inner: Any) -> tuple[str, tuple[str, ...]]:
    origin = get_origin(inner)
    if origin is Literal:
        return "select", tuple(str(arg) for arg in get_args(inner))
    if origin is dict:
        return "pairs", ()
    if origin is list:
        return "lines", ()
    if isinstance(inner, type):
        if issubclass(inner, SecretStr):
            return "secret", ()
        if issubclass(inner, bool):
            return "check", ()
        if issubclass(inner, int):
            return "number", ()
        if issubclass(inner, Enum):
            return "select", tuple(str(member.value) for member in inner)
    return "text", ()


def _is_secret(inner: Any) -> bool:
    if get_origin(inner) in (dict, list):
        return any(_is_secret(arg) for arg in get_args(inner))
    return isinstance(inner, type) and issubclass(inner, SecretStr)


def _default(info: FieldInfo) -> Any:
    value = info.get_default(call_default_factory=False)
    return None if value is PydanticUndefined else value


def _text(value: Any, kind: str) -> str:
    if value is None:
        return ""
    if kind == "pairs" and isinstance(value, Mapping):
        return "\n".join(f"{key} = {getattr(one, 'value', one)}" for key, one in value.items())
    if kind == "lines" and isinstance(value, (list, tuple)):
        return "\n".join(str(one) for one in value)
    if kind == "check":
        return "1" if value else ""
    return str(getattr(value, "value", value))
