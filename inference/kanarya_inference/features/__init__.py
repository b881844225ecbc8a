"""Features: one definition for training, serving and batch scoring."""

from kanarya_inference.features.bins import DriftReference, FeatureReference
from kanarya_inference.features.schema import Column, FeatureSchema, SchemaError, snapshot_schema
from kanarya_inference.features.schema_file import read_schema_file
from kanarya_inference.features.table import Encoded, encode, reference_of
from kanarya_inference.features.vector import MalformedRequestError, RequestReader, SnapshotError

__all__ = [
    "Column",
    "DriftReference",
    "Encoded",
    "FeatureReference",
    "FeatureSchema",
    "MalformedRequestError",
    "RequestReader",
    "SchemaError",
    "SnapshotError",
    "encode",
    "read_schema_file",
    "reference_of",
    "snapshot_schema",
]
