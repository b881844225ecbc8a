"""Tensors of the Open Inference Protocol: their JSON form, checked against datatype and shape. Pure."""

from __future__ import annotations

import math
from types import NoneType
from typing import Any

import msgspec

MAX_DIMENSIONS, MAX_SIZE = 8, 10_000_000
NUMBERS = {float, int}
INTEGERS = {
    **{f"INT{bits}": (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": (0, 2**bits - 1) for bits in (8, 16, 32, 64)},
}
FLOATS = {"FP16": 65504.0, "FP32": 3.4028234663852886e38, "FP64": 1.7976931348623157e308}
RANGES: dict[str, tuple[float, float]] = {**INTEGERS, **{name: (-limit, limit) for name, limit in FLOATS.items()}}
DATATYPES = dict.fromkeys(("BOOL", *RANGES, "BYTES"))


class TensorError(Exception):
    """A tensor that contradicts itself; the message names it and says what to change."""


class Tensor(msgspec.Struct, omit_defaults=True):
    """A named tensor; `data` is in row-major order, nested or flat."""

    name: str
    shape: list[int]
    datatype: str
    data: list[Any]
    parameters: dict[str, Any] | None = None


class RequestedOutput(msgspec.Struct):
    """An output that is asked for."""

    name: str
    parameters: dict[str, Any] | None = None


class InferRequest(msgspec.Struct):
    """Body of an infer call."""

    inputs: list[Tensor]
    id: str | None = None
    parameters: dict[str, Any] | None = None
    outputs: list[RequestedOutput] | None = None


class InferAnswer(msgspec.Struct, omit_defaults=True):
    """Answer of an infer call."""

    model_name: str
    model_version: str
    outputs: list[Tensor]
    id: str | None = None
    parameters: dict[str, Any] | None = None


def check_shape(tensor: Tensor, where: str) -> None:
    """Raise `TensorError` for a shape that is none."""
    shape = tensor.shape
    if len(shape) > MAX_DIMENSIONS or min(shape, default=0) < 0 or max(shape, default=0) > MAX_SIZE:
        raise TensorError(f"{where}: shape is a list of at most {MAX_DIMENSIONS} sizes from 0 to {MAX_SIZE}")


def flat_values(tensor: Tensor, where: str) -> tuple[list[Any], bool]:
    """Return a tensor's values in row-major order, as many as its shape says and each of its datatype, and whether a null is among them.

    The shape has been checked. null stands for itself. Raises `TensorError`.
    """
    if tensor.datatype not in DATATYPES:
        raise TensorError(f"{where}: datatype {tensor.datatype[:20]!r} is unknown; there are {', '.join(DATATYPES)}")
    values, kinds = _flat(tensor.data, where)
    if (size := math.prod(tensor.shape)) != len(values):
        raise TensorError(f"{where}: shape {tensor.shape} has {size} values, data has {len(values)}")
    with_null = NoneType in kinds
    if with_null:
        _check(tensor.datatype, [value for value in values if value is not None], kinds - {NoneType}, where)
    else:
        _check(tensor.datatype, values, kinds, where)
    return values, with_null


def _flat(data: list[Any], where: str) -> tuple[list[Any], set[type]]:
    """Return the values and their types."""
    for _ in range(MAX_DIMENSIONS):
        kinds = set(map(type, data))
        if list not in kinds:
            return data, kinds
        if kinds != {list} or len({len(part) for part in data}) > 1:
            raise TensorError(f"{where}: data is either flat or nested everywhere alike")
        data = [value for part in data for value in part]
    raise TensorError(f"{where}: data is nested deeper than {MAX_DIMENSIONS} dimensions")


def _check(datatype: str, values: list[Any], kinds: set[type], where: str) -> None:
    if datatype == "BYTES":
        fits = kinds <= {str}
    elif datatype == "BOOL":
        fits = kinds <= {bool}
    else:
        least, most = RANGES[datatype]
        fits = kinds <= NUMBERS and (not values or (least <= min(values) and max(values) <= most))
        if fits and datatype in INTEGERS and float in kinds:
            # JSON knows one kind of number, and some clients write every one with a point.
            fits = all(value == int(value) for value in values)
    if not fits:
        raise TensorError(f"{where}: a value is no {datatype}")
