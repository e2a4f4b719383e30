"""The sensor's agent: capture, count, spool and send, as one process that is never to be looked after."""

from __future__ import annotations

from counter.agent.clock import AgentClock, ScaledClock, SystemAgentClock
from counter.agent.feed import Feed, open_feed
from counter.agent.schedule import Hours, Schedule
from counter.agent.settings import SensorSettings, SettingsError, load_settings, parse_settings
from counter.agent.supervisor import Agent

__all__ = [
    "Agent",
    "AgentClock",
    "Feed",
    "Hours",
    "ScaledClock",
    "Schedule",
    "SensorSettings",
    "SettingsError",
    "SystemAgentClock",
    "load_settings",
    "open_feed",
    "parse_settings",
]
