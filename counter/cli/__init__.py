"""Command line of the sensor side; thin wrappers around the SDK."""
