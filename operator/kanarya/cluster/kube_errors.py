"""From what the API server answered, or failed to answer, to the errors of the port."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import aiohttp
from kubernetes.aio.client.exceptions import OpenApiException
from kubernetes.aio.config.config_exception import ConfigException

from kanarya.cluster.port import AlreadyExists, ApiError, Conflict, Forbidden, Invalid, NotFound, Unavailable

LONGEST_REASON = 1000
"""Characters of the API server's own sentence that a message may carry."""


class Gone(ApiError):  # noqa: N818 -- the API's own word
    """The resourceVersion or the `continue` token is too old (410). Lists and watches start again; callers never see it."""


@contextmanager
def transport_failures(what: str) -> Iterator[None]:
    """Turn everything that can go wrong on the way to the API server and back into `Unavailable`.

    `ValueError` is a body that is no JSON, or a token that cannot stand in a header.
    """
    try:
        yield
    except TimeoutError as error:
        raise Unavailable(f"{what}: no answer from the API server in time") from error
    except (aiohttp.ClientError, OSError) as error:
        raise Unavailable(f"{what}: the API server could not be reached ({type(error).__name__})") from error
    except (ValueError, RecursionError) as error:
        raise Unavailable(f"{what}: the answer could not be read ({type(error).__name__})") from error
    except (ConfigException, OpenApiException) as error:
        raise Unavailable(f"{what}: the credentials could not be read ({type(error).__name__})") from error


def error_from(status: int, body: bytes, what: str, *, has_test: bool = False) -> ApiError:
    """Return the error that an answer stands for.

    Parameters
    ----------
    status
        HTTP status, or the `code` of a Status object in a watch.
    body
        The answer's body; only the `message` of a Status object is ever passed on.
    what
        The call, for the message: `patch deployments shop/fraud`.
    has_test
        The call was a JSON patch with a `test` operation.
    """
    return error_from_status(status, _status_object(body), what, has_test=has_test)


def error_from_status(status: int, answer: dict[str, Any], what: str, *, has_test: bool = False) -> ApiError:
    """Return the error that a Status object stands for; see `error_from`."""
    message = answer.get("message")
    said = f"{what}: {message[:LONGEST_REASON]}" if isinstance(message, str) and message else f"{what}: status {status}"
    match status:
        case 401 | 403:
            return Forbidden(said)
        case 404:
            return NotFound(said)
        case 409:
            return AlreadyExists(said) if answer.get("reason") == "AlreadyExists" else Conflict(said)
        case 410:
            return Gone(said)
        case 422 if has_test and _patch_did_not_apply(answer):
            return Conflict(f"{what}: a test in the JSON patch did not hold")
        case 408 | 429:
            return Unavailable(said)
        case _ if 400 <= status < 500:
            return Invalid(said)
        case _:
            return Unavailable(said)


def _patch_did_not_apply(answer: dict[str, Any]) -> bool:
    """Tell a JSON patch that could not be applied from an object that was refused.

    Both are 422 Invalid. A refused object is named in `details`; a patch that fails to apply never gets that far, and the
    API server does not say which of its operations failed.
    """
    details = answer.get("details")
    return not (isinstance(details, dict) and (details.get("name") or details.get("causes")))


def _status_object(body: bytes) -> dict[str, Any]:
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return parsed if isinstance(parsed, dict) and parsed.get("kind") == "Status" else {}
