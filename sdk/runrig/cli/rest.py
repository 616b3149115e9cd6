"""How commands ask a framework over its REST API: one way for the service and the batch framework."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import httpx

from runrig.errors import InvalidInput, TimedOut, Unavailable


class Rest:
    """The API of the framework that the option `--KIND` names; close it, or use it with `with`.

    Raises Unavailable, or TimedOut, in words for a person when the framework does not answer.
    """

    def __init__(self, kind: str, url: str, timeout_s: float) -> None:
        """Connect to nothing yet; raise InvalidInput for what is no URL."""
        self._kind = kind
        self.url = _checked(kind, url)
        self._http = httpx.Client(base_url=self.url, timeout=timeout_s)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_error: object) -> None:
        """Close the connections."""
        self._http.close()

    def request(self, method: str, path: str, body: object = None, **options: Any) -> httpx.Response:
        """Make one call, with `body` as JSON if there is one; return the answer, whatever its status."""
        with self._explained():
            return self._http.request(method, path, **_as_json(body), **options)

    @contextmanager
    def stream(self, path: str, **options: Any) -> Iterator[httpx.Response]:
        """Make one call whose answer is read while it comes."""
        with self._explained(), self._http.stream("GET", path, **options) as response:
            yield response

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except httpx.ConnectError as error:
            named = f"name it with --{self._kind} or RUNRIG_{self._kind.upper()}"
            text = f"no {self._kind} framework answers at {self.url}; start a cluster with `runrig dev`, or {named}"
            raise Unavailable(text) from error
        except httpx.TimeoutException as error:
            raise TimedOut(
                f"the {self._kind} framework at {self.url} does not answer in time; is it frozen?"
            ) from error
        except httpx.TransportError as error:
            text = f"the {self._kind} framework at {self.url} broke off ({error}); is it one, and does it run?"
            raise Unavailable(text) from error


def _as_json(body: object) -> dict[str, Any]:
    """Return the body in ASCII: a text that is no Unicode arrives as it is, and is refused with its field's name."""
    if body is None:
        return {}
    return {"content": json.dumps(body).encode(), "headers": {"Content-Type": "application/json"}}


def _checked(kind: str, text: str) -> str:
    url = text if "://" in text else f"http://{text}"
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, ValueError):
        parsed = httpx.URL("")
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise InvalidInput(f"--{kind}", text, "http://host:port")
    return url.rstrip("/")
