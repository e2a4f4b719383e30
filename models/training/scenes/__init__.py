"""Rendered rooms with people and exact truth: for training, tests and benchmarks.

Everything is drawn from CC0 sources (MakeHuman bodies, clothes and hair; Poly Haven interiors) and from
procedures in this package. The same seed gives the same bytes on the same machine and library versions.
"""
