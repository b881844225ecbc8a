"""What can go wrong in training."""


class TrainingError(Exception):
    """The model was not written; the message says why."""
