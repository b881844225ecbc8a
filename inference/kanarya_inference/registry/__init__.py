"""Model artefacts on disk."""

from kanarya_inference.registry.artefact import Artefact, ArtefactError, IntegrityError, check_version, read_artefact, write_artefact

__all__ = ["Artefact", "ArtefactError", "IntegrityError", "check_version", "read_artefact", "write_artefact"]
