"""The SDK: frame source, detector, tracker, lines and zones, counting, health, schedule, agent, offline benchmark."""
