"""ml-router: splits, mirrors and compares requests."""
