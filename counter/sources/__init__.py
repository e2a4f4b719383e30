"""Where frames come from. A frame lives in memory only, and its buffer is written over by the next one."""

from counter.sources.base import FrameSource, SourceError, TimedFrame, public_name
from counter.sources.live import Capture, LiveSettings, LiveSource
from counter.sources.opening import Paced, live_capture, open_source
from counter.sources.recorded import ArraySource, ImageFolder, VideoFile

__all__ = [
    "ArraySource",
    "Capture",
    "FrameSource",
    "ImageFolder",
    "LiveSettings",
    "LiveSource",
    "Paced",
    "SourceError",
    "TimedFrame",
    "VideoFile",
    "live_capture",
    "open_source",
    "public_name",
]
