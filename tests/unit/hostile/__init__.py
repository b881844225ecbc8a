"""Whatever people, pods and files may hold: a clear sentence, and nobody else suffers."""
