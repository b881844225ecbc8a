"""The errors that commands answer with one sentence."""

from __future__ import annotations

from kanarya_inference.features import SchemaError
from kanarya_inference.features.market import QuoteError
from kanarya_inference.features.tables import TableError
from kanarya_inference.registry import ArtefactError, RegistryError
from kanarya_inference.training.errors import TrainingError

EXPECTED = (ArtefactError, QuoteError, RegistryError, SchemaError, TableError, TrainingError)
