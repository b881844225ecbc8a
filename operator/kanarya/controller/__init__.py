"""The process: watches, queue, reconcile, its own metrics."""
