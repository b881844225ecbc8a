"""`kanarya crd`: print the CustomResourceDefinition, or write it where the repository keeps it."""

from __future__ import annotations

import argparse
import json
import sys

from kanarya.api.crd import custom_resource_definition


def add_arguments(sub: argparse.ArgumentParser) -> None:
    """Add this command's options: none."""
    del sub


def run(arguments: argparse.Namespace) -> int:
    """Print the definition as JSON, which is YAML too."""
    del arguments
    sys.stdout.write(json.dumps(custom_resource_definition(), indent=2) + "\n")
    return 0
