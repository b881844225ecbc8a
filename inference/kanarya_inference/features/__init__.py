"""Features: one definition for training and serving."""

from kanarya_inference.features.bins import DriftReference, FeatureReference
from kanarya_inference.features.schema import Column, FeatureSchema, SchemaError, snapshot_schema
from kanarya_inference.features.vector import MalformedRequestError, RequestReader, SnapshotError

__all__ = [
    "Column",
    "DriftReference",
    "FeatureReference",
    "FeatureSchema",
    "MalformedRequestError",
    "RequestReader",
    "SchemaError",
    "SnapshotError",
    "snapshot_schema",
]
