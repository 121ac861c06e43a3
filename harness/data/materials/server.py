"""The Materials Project's own client (mp-api), made when needed, and patience with the service.

The client asks the server as soon as it is made, so it is made when something is asked for first.
Requests are repeated here, with growing pauses or as long as the server asks for; the client's own
three quick repetitions are switched off, so that nothing is repeated by both.
"""

from __future__ import annotations

import json
import os
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from inspect import signature
from typing import TYPE_CHECKING, Any, TypeVar

from harness.data.materials.cache import Material
from harness.data.structure_files import UnreadStructure
from harness.errors import DataError, did_you_mean

if TYPE_CHECKING:
    from mp_api.client import MPRester
    from requests import Response, Session

    from harness.plugin.locations import Locations

Answer = TypeVar("Answer")
Query = Mapping[str, Any]
"""Arguments of the client's `materials.summary.search`, as {"is_stable": True}."""

ATTEMPTS = 7
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 300.0
"""A server that asks for a longer pause is busy or down: the user is told, and may come back."""

TIMEOUT_SECONDS = 60.0
"""Without any sign of life from the server."""

FIELDS = ["material_id", "structure", "deprecated"]

_RESERVED = frozenset(
    "num_chunks chunk_size all_fields fields _page _sort_fields kwargs self".split()
)
_KEY_PAGE = "https://next-gen.materialsproject.org/api"
_STATUS_PAGE = "https://status.materialsproject.org"


@dataclass(frozen=True, kw_only=True)
class Service:
    """How the Materials Project is reached.

    Attributes:
        endpoint: its address ($MP_API_ENDPOINT, else the client's own).
        timeout: seconds without any sign of life from the server.
        sleep: pauses between attempts.
        told: is called with what is going on, a line each time.
    """

    endpoint: str | None = field(default_factory=lambda: os.environ.get("MP_API_ENDPOINT") or None)
    timeout: float = TIMEOUT_SECONDS
    sleep: Callable[[float], None] = lambda seconds: time.sleep(seconds)  # noqa: PLW0108
    told: Callable[[str], None] = lambda line: None


class MaterialsServer:
    """The client, made when it is first needed, and patience with what answers it."""

    def __init__(self, locations: Locations, service: Service) -> None:
        self._offline = locations.offline
        self._service = service
        self._answer: Response | None = None
        self.told = service.told

    @cached_property
    def version(self) -> str:
        """Version of the database."""
        address = f"{self._endpoint}heartbeat"
        return self._ask("its heartbeat", lambda: str(self._get(address)["db_version"]))

    def search(
        self, query: Query, page: int, size: int, fields: Sequence[str] = ()
    ) -> list[Material]:
        """One page of the materials that fit a query, in the order of their ids.

        Args:
            query: what they fit.
            page: its number, from 1, as in `PaginationQuery` of emmet-api, which the server runs.
            size: materials of a page.
            fields: whose values are wanted; a dot leads into a field, as in `bulk_modulus.vrh`.
        """
        self._check(query)
        arguments = {"deprecated": False, **query}
        found = self._ask(
            f"page {page} of the query",
            lambda: self._rester.materials.summary.search(
                **arguments,
                fields=[*FIELDS, *(name.partition(".")[0] for name in fields)],
                chunk_size=size,
                num_chunks=1,
                _page=page,
                _sort_fields="material_id",
            ),
        )
        self.told(f"{(page - 1) * size + len(found)} materials fetched")
        return [self._material(document, fields) for document in found]

    def by_ids(self, ids: Sequence[str], deprecated: bool = False) -> list[Material]:
        """Materials by their current ids; unknown ones are left out.

        The server takes a question that does not mention `deprecated` for one about those that are
        not (`DeprecationQuery` of emmet-api), so withdrawn ones have to be asked for separately.
        """
        if not ids:
            return []
        found = self._ask(
            f"{len(ids)} materials from {ids[0]} on",
            lambda: self._rester.materials.summary.search(
                material_ids=list(ids),
                deprecated=deprecated,
                fields=FIELDS,
                chunk_size=len(ids),
                num_chunks=1,
            ),
        )
        return [self._material(document) for document in found]

    def moved(self, ids: Sequence[str]) -> dict[str, str]:
        """Current ids of materials that had, or took up, others: a calculation keeps its id."""
        found = self._ask(
            f"what became of {len(ids)} ids, {ids[0]} and on",
            lambda: self._rester.materials.search(
                task_ids=list(ids),
                fields=["material_id", "task_ids"],
                chunk_size=len(ids),
                num_chunks=1,
            ),
        )
        now = {
            self.canonical(task): self.canonical(document["material_id"])
            for document in found
            for task in document["task_ids"] or ()
        }
        return {name: now[name] for name in ids if name in now}

    def canonical(self, material_id: object) -> str:
        """One spelling per id: the database has begun to write mp-149 as mp-ft."""
        from emmet.core.mpid import validate_identifier

        found = validate_identifier(str(material_id), serialize=False)
        return str(getattr(found, "string", found))

    def _material(self, document: Mapping[str, Any], fields: Sequence[str] = ()) -> Material:
        name = self.canonical(document["material_id"])
        row = UnreadStructure(
            name, "jsonl", json.dumps({"structure": document.get("structure")})
        ).read()
        deprecated = bool(document.get("deprecated"))
        values = {name: _value(document, name) for name in fields}
        return Material(name, row.crystal, row.reason, self.version, deprecated, values)

    def _check(self, query: Query) -> None:
        """Refuses names that the client's search does not know, before it is asked."""
        from mp_api.client.routes.materials.summary import SummaryRester

        known = set(signature(SummaryRester.search).parameters) - _RESERVED
        for name in query:
            if name not in known:
                hint = did_you_mean(name, known)
                raise DataError(f"The Materials Project cannot be asked for {name!r}.{hint}")

    @cached_property
    def _endpoint(self) -> str:
        if self._offline:
            raise DataError(
                "The Materials Project was not asked: offline ($HARNESS_OFFLINE). What was fetched "
                "before is used; the rest needs a network."
            )
        try:
            from mp_api.client.core.utils import validate_endpoint
        except ModuleNotFoundError as problem:
            raise DataError(
                f"Structures from the Materials Project need the package mp-api ({problem.name} is "
                "not installed): pip install 'paraisite-harness[mp]'."
            ) from None
        return str(validate_endpoint(self._service.endpoint))

    @cached_property
    def _key(self) -> str:
        """The user's key. It goes to the server alone: into no file, message or log."""
        from mp_api.client.core.exceptions import MPRestError
        from mp_api.client.core.utils import validate_api_key

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is missing is said below
            try:
                key = validate_api_key()
            except MPRestError:
                key = "malformed"
        if not key or key == "malformed":
            state = "is malformed: 32 characters are expected" if key else "is missing"
            raise DataError(
                f"The key to the Materials Project {state}. Get one at {_KEY_PAGE} and set it in "
                "the environment, MP_API_KEY=…, or once for all with "
                "`pmg config --add PMG_MAPI_KEY …`."
            )
        return key

    @cached_property
    def _session(self) -> Session:
        """A session that repeats nothing by itself, and never waits for ever."""
        from requests import Session
        from requests.adapters import HTTPAdapter

        timeout = self._service.timeout

        class Adapter(HTTPAdapter):
            def send(self, *args: Any, **options: Any) -> Response:
                return super().send(*args, **{**options, "timeout": timeout})

        def note(answer: Response, **options: Any) -> None:
            self._answer = answer
            # The client looks for "414" and "422" in the text of an error, address and ids
            # included, and would then ask again in smaller pieces whatever the status is.
            if answer.status_code in (401, 403, 429) or answer.status_code >= 500:
                answer.raise_for_status()

        session = Session()
        for scheme in ("https://", "http://"):
            session.mount(scheme, Adapter(max_retries=0))
        session.hooks["response"].append(note)
        return session

    def _get(self, address: str) -> Any:
        answer = self._session.get(address)
        answer.raise_for_status()
        return answer.json()

    @cached_property
    def _rester(self) -> MPRester:
        _ = self.version  # asked with a time limit and patience; the client asks again with neither
        from mp_api.client import MPRester

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about versions of its own; nothing a user could do
            return MPRester(
                self._key,
                endpoint=self._endpoint,
                session=self._session,
                use_document_model=False,
                mute_progress_bars=True,
            )

    def _ask(self, what: str, request: Callable[[], Answer]) -> Answer:
        """Makes a request until it is answered.

        Raises:
            DataError: the key is refused, the request makes no sense, or patience is at its end.
        """
        attempt = 1
        while True:
            self._answer = None
            try:
                return request()
            except DataError:
                raise
            except Exception as problem:  # the client turns some of them into its own, not all
                pause = self._pause(problem, what, attempt)
            self.told(f"waiting {pause:.0f} s for the Materials Project")
            self._service.sleep(pause)
            attempt += 1

    def _pause(self, problem: Exception, what: str, attempt: int) -> float:
        """How long to wait before the next attempt, or why there will be none."""
        status = None if self._answer is None else self._answer.status_code
        if self._answer is not None and status in (401, 403):
            if "x-api-key" not in self._answer.request.headers:
                raise DataError(
                    f"The Materials Project lets nobody in from here (HTTP {status}); no key was "
                    f"sent yet. {_STATUS_PAGE} says whether the service is up."
                ) from None
            raise DataError(
                f"The Materials Project refuses the key (HTTP {status}). Look it up at {_KEY_PAGE} "
                "and set it in the environment, MP_API_KEY=…, or with `pmg config --add "
                "PMG_MAPI_KEY …`."
            ) from None
        if not (status == 429 or (status or 0) >= 500 or _is_network(problem)):
            raise DataError(
                f"The Materials Project cannot be asked for {what}: {self._safe(problem)} Correct "
                "the query; if there is none, another version of mp-api may be needed."
            ) from None
        asked = _retry_after(self._answer)
        pause = max(asked, FIRST_PAUSE_SECONDS * 2.0 ** (attempt - 1))
        if attempt < ATTEMPTS and pause <= LONGEST_PAUSE_SECONDS:
            return pause
        told = f"HTTP {status}" if status not in (None, 200) else self._safe(problem)
        wish = f"; it asks to come back in {asked:.0f} s" if asked else ""
        raise DataError(
            f"The Materials Project did not answer when asked for {what}, {attempt} times: "
            f"{told.rstrip('.')}{wish}. What was fetched is kept: the same command goes on from "
            f"there. {_STATUS_PAGE} says whether the service is up."
        ) from None

    def _safe(self, problem: Exception) -> str:
        """The message of an error, without the key, should a server have echoed it."""
        text = str(problem) or type(problem).__name__
        text = text if text.endswith(".") else f"{text}."
        key = vars(self).get("_key")
        return text.replace(str(key), "<key>") if key else text


def _value(document: Mapping[str, Any], field: str) -> Any:
    """Looks a field up, by its path; None where a part of it is not there."""
    value: Any = document
    for name in field.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _is_network(problem: BaseException) -> bool:
    """Whether an error, or one that it was made of, is of the connection or of a cut answer."""
    from json import JSONDecodeError

    from requests import RequestException

    link: BaseException | None = problem
    while link is not None:
        if isinstance(link, RequestException | OSError | JSONDecodeError):
            return True
        link = link.__cause__ or link.__context__
    return False


def _retry_after(answer: Response | None) -> float:
    """Seconds that a server asks to wait, from either form of the header; 0 if it does not."""
    text = "" if answer is None else str(answer.headers.get("Retry-After", ""))
    if text.strip().isdigit():
        return float(text)
    from email.utils import parsedate_to_datetime

    try:
        return float(max(0.0, parsedate_to_datetime(text).timestamp() - time.time()))
    except (TypeError, ValueError):
        return 0.0
