"""Model artefacts on disk."""

from kanarya_inference.registry.artefact import Artefact, ArtefactError, IntegrityError, check_version, read_artefact, write_artefact
from kanarya_inference.registry.offline import OfflineReport, offline_report
from kanarya_inference.registry.parity import PARITY_TOLERANCE, ParityBatch, ParityError, Scorer, load_verified, onnx_scorer, open_session
from kanarya_inference.registry.store import Registry, RegistryError

__all__ = [
    "PARITY_TOLERANCE",
    "Artefact",
    "ArtefactError",
    "IntegrityError",
    "OfflineReport",
    "ParityBatch",
    "ParityError",
    "Registry",
    "RegistryError",
    "Scorer",
    "check_version",
    "load_verified",
    "offline_report",
    "onnx_scorer",
    "open_session",
    "read_artefact",
    "write_artefact",
]
