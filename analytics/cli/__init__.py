"""Command line of the service; thin wrappers around the package."""
