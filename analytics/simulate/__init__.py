"""A simulated campus: rooms, a timetable, people who come late, leave early, skip and stay, and sensors that err.

Everything that comes out of here is marked as simulated: ids begin with ``sim-``, names and titles say so. The same
seed gives the same campus. The truth comes from what the simulated people do, in ``people``; sensors only ever see
them through their own faults, in ``sensors``; the product's matching is judged against the truth in ``judge``.
"""

from analytics.simulate.campus import Campus, SimulatedRoom, simulate_room
from analytics.simulate.judge import Report, judge
from analytics.simulate.store import populate

__all__ = ["Campus", "Report", "SimulatedRoom", "judge", "populate", "simulate_room"]
