"""What the counter's commands share: quiet codecs and errors as the command line says them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click
import cv2

from counter.sources import FrameSource, SourceError, open_source


def quiet_codecs() -> None:
    """Keep the codecs' own lines off stderr: the errors raised here name field and value, theirs do not."""
    if "OPENCV_FFMPEG_DEBUG" not in os.environ:
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


def fail(error: SourceError) -> click.ClickException:
    """Exit code 2 for what the caller gave, 1 for a run that failed."""
    return click.UsageError(str(error)) if error.usage else click.ClickException(str(error))


@contextmanager
def friendly_source(spec: str, **options: Any) -> Iterator[FrameSource]:
    """:func:`open_source` with errors of the command line, closed at the end."""
    try:
        source = open_source(spec, **options)
    except SourceError as error:
        raise fail(error) from error
    try:
        yield source
    finally:
        source.close()
