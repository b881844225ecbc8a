"""The `kanarya` command."""
