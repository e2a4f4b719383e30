"""The ONNX models that ship, the registry of models that can be pulled, and the training recipe.

Inside this package imports are relative: it is loaded under another name where a user's own ``models`` package
stands in the way (docs/architecture.md).
"""
