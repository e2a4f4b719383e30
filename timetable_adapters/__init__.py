"""The booking contract and one module per scheduling system. Imports nothing else of Headroom."""
