"""A bucket, or a prefix in one, as a place for a store or for recordings: S3, Google Cloud Storage, Azure, by obstore.

Every object carries the sha256 of its bytes as metadata, so a body that was damaged on the way is noticed by whoever
reads it. Errors quote neither the address of a request nor the server's answer, for both may hold credentials.
"""

import contextlib
import datetime
import errno
import hashlib
import os
import random
import re
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, TypeVar

from softlabels.errors import EnvironmentTrouble, SoftLabelsError, StoreError
from softlabels.storage.file_cache import user_cache
from softlabels.storage.protocol import TEMPORARY
from softlabels.threads import in_threads

if TYPE_CHECKING:
    from obstore.store import ObjectStore

Answer = TypeVar("Answer")
PATIENCE_S = 60.0  # how long a request is tried again before the work is put off
CHANGED_TRIES = 3  # how often bytes that came damaged are asked for, or sent, again
REPAIR_S = 2.0
REQUEST_S, CONNECT_S = 300, 5
REQUESTS_AT_ONCE = 32  # where many objects are read
PAGE = 1000  # keys an answer to a listing
PIECE = 8 << 20  # bytes a request of a download
LOOPBACK = re.compile(r"http://(localhost|127\.0\.0\.1|\[::1\])([:/]|$)")
ROLE = re.compile("latest/api/token|latest/meta-data|metadata.google")  # where a machine is asked for its role
PASSING = frozenset({408, 409, 429, 500, 502, 503, 504})  # HTTP answers that another try may change
CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the role of the machine",
    "gs": "GOOGLE_SERVICE_ACCOUNT, or the account of the machine",
    "az": "AZURE_STORAGE_ACCOUNT_NAME with AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN",
}


class ObjectStorage:
    """A `Storage` in a bucket.

    Writes are whole objects; put-if-absent is the provider's conditional write.

    Args:
      url: as `location` returns it.
    """

    def __init__(self, url: str) -> None:
        self.url = url

    def __str__(self) -> str:
        return self.url

    def __reduce__(self) -> tuple:
        return ObjectStorage, (self.url,)

    def check(self) -> None:
        """See, before any work is done, whether the bucket can be written and writes conditionally.

        Raises: StoreError.
        """
        key = f"{TEMPORARY}{secrets.token_hex(8)}"
        try:
            created = [self.put_if_absent(key, b"first"), self.put_if_absent(key, b"second")]
            self._ask(f"deleting {key}", lambda obstore: obstore.delete(self._client, key))
        except EnvironmentTrouble as e:
            raise StoreError(str(e)) from None
        if created != [True, False]:
            raise StoreError(
                f"'{self}' does not support conditional writes (If-None-Match): two runs could not be told apart; "
                "label into another place"
            )

    def is_there(self) -> bool:
        """Whether anything is here; one request, however much it is. Raises: StoreError: there is no such bucket."""
        return bool(self._ask("listing", lambda obstore: next(iter(obstore.list(self._client, chunk_size=1)), None)))

    def names(self) -> set[str]:
        """What is at the top: names of objects and folders."""
        found = self._ask("listing", lambda obstore: obstore.list_with_delimiter(self._client))
        names = [meta["path"] for meta in found["objects"]] + list(found["common_prefixes"])
        return {name for name in names if not name.startswith(TEMPORARY)}

    def get(self, key: str) -> bytes:
        """The bytes under a key. Raises: FileNotFoundError. StoreError: they are not what was written."""
        for tries_left in reversed(range(CHANGED_TRIES)):
            data, expected = self._ask(f"reading {key}", lambda obstore: _read(obstore.get(self._client, key)))
            found = hashlib.sha256(data).hexdigest()
            if expected in (None, found):
                return data
            if tries_left:
                time.sleep(random.uniform(0, REPAIR_S))  # its writer may be about to mend it
        raise StoreError(f"'{self}': {key} is damaged: it was written as sha256:{expected}, it is sha256:{found}")

    def get_content(self, key: str, sha256: str) -> bytes:
        """The bytes under a key that is named by content: from this user's cache where it has them."""
        with user_cache().borrow(sha256, lambda: [self.get(key)]) as path:
            return path.read_bytes()

    def get_many(self, keys: Iterable[str]) -> Iterator[bytes]:
        """The bytes under each key, in order, many requests at once. Raises: as `get`."""
        return in_threads(self.get, ((key,) for key in keys), threads=REQUESTS_AT_ONCE)

    def exists(self, key: str) -> bool:
        try:
            self.state(key)
        except FileNotFoundError:
            return False
        return True

    def state(self, key: str) -> tuple[int, str]:
        """(size in bytes, entity tag) of an object; the tag is another one once its bytes are. FileNotFoundError."""
        meta = self._ask(f"looking at {key}", lambda obstore: obstore.head(self._client, key))
        return meta["size"], meta["e_tag"] or ""

    def states(self, folder: str) -> dict[str, tuple[int, str]]:
        """key -> state of every object in a folder, "" for the top, without those in folders below."""

        def ask(obstore: Any) -> dict[str, tuple[int, str]]:
            found = obstore.list_with_delimiter(self._client, folder)
            return {meta["path"]: (meta["size"], meta["e_tag"] or "") for meta in found["objects"]}

        return self._ask(f"listing {folder}", ask)

    def list(self, folder: str) -> dict[str, int]:
        """key -> size in bytes of every object in a folder, sorted by key; asked for page by page."""
        found = self._ask(
            f"listing {folder}",
            lambda obstore: {meta["path"]: meta["size"] for meta in self._objects(obstore, folder)},
        )
        return dict(sorted(found.items()))

    def pieces(self, key: str, size: int, tag: str) -> Iterator[bytes]:
        """The bytes of one state of an object, a request a piece. Raises: EnvironmentTrouble: it was replaced."""
        for start in range(0, size, PIECE):
            options = {"range": (start, min(start + PIECE, size)), **({"if_match": tag} if tag else {})}
            yield self._ask(
                f"reading {key}", lambda obstore, o=options: bytes(obstore.get(self._client, key, options=o).bytes())
            )

    def put(self, key: str, data: bytes) -> None:
        """Write or replace, atomically; what cannot be written undamaged is not left under its key."""
        for _ in range(CHANGED_TRIES):
            made = self._ask(f"writing {key}", lambda obstore: obstore.put(self._client, key, data, **_whole(data)))
            if self._arrived(key, data, made["e_tag"]):
                return
        self._ask(f"deleting {key}", lambda obstore: obstore.delete(self._client, key))
        raise EnvironmentTrouble(f"'{self}': {key} is damaged on its way, {CHANGED_TRIES} times")

    def put_if_changed(self, key: str, data: bytes) -> None:
        """Write or replace, unless these very bytes are there already."""
        with contextlib.suppress(FileNotFoundError, StoreError):
            if self.get(key) == data:
                return
        self.put(key, data)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Write unless something is there already; True if this call wrote it. Atomic between writers.

        An answer may be lost after the object was written; if the next try finds these very bytes, they count as
        written by this call. Two writers of equal bytes may then both be told so.
        """
        unsure, error = False, None
        for pause_s in _pauses():
            made, error = self._create(key, data)
            if made is not None:
                if not self._arrived(key, data, made["e_tag"]):
                    self.put(key, data)
                return True
            if not _already_exists(error):
                if not _is_passing(error):
                    raise self._meaning(error, f"writing {key}")
                unsure = True
            elif (there := self._there(key)) is not None:
                return unsure and there == data
            time.sleep(pause_s)
        raise self._meaning(error, f"writing {key}")

    def sweep(self, folder: str, keep: set[str], *, older_than_s: float) -> int:
        """Delete objects whose key is not in `keep`, unless they are young; how many."""
        before = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=older_than_s)

        def stale(obstore: Any) -> list[str]:
            objects = self._objects(obstore, folder)
            return [meta["path"] for meta in objects if meta["last_modified"] < before and meta["path"] not in keep]

        keys = self._ask(f"listing {folder}", stale)
        if keys:
            self._ask(f"deleting from {folder}", lambda obstore: obstore.delete(self._client, keys))
        return len(keys)

    def _objects(self, obstore: Any, folder: str) -> Iterator[dict[str, Any]]:
        for page in obstore.list(self._client, folder, chunk_size=PAGE):
            for meta in page:
                path = PurePosixPath(meta["path"])
                if str(path.parent) == folder and not path.name.startswith(TEMPORARY):
                    yield meta

    def _create(self, key: str, data: bytes) -> tuple[dict[str, Any] | None, Exception | None]:
        """One conditional write: what was made, or what obstore says."""
        try:
            return self._request(
                lambda obstore: obstore.put(self._once, key, data, mode="create", **_whole(data))
            ), None
        except Exception as e:  # the caller gives it a meaning
            return None, e

    def _there(self, key: str) -> bytes | None:
        """What is under a key; None where the answer "already exists" only meant that a write was under way (409)."""
        try:
            return self.get(key)
        except FileNotFoundError:
            return None

    def _arrived(self, key: str, data: bytes, tag: str | None) -> bool:
        """Whether the object is what was sent: its tag is the MD5, as S3 makes it, or it is read back."""
        if (tag or "").strip('"') == hashlib.md5(data, usedforsecurity=False).hexdigest():
            return True
        return self._ask(f"reading {key}", lambda obstore: _read(obstore.get(self._client, key)))[0] == data

    def _ask(self, doing: str, request: Callable[[Any], Answer]) -> Answer:
        """The answer to a request. obstore asks again by itself, but not after a 409, nor on every lost connection.

        Raises: FileNotFoundError: no such object; StoreError: no such bucket; EnvironmentTrouble.
        """
        for pause_s in _pauses():
            try:
                return self._request(request)
            except Exception as e:  # whatever obstore raises is given a meaning
                in_the_way, trouble = _already_exists(e) or _status(e) == 409, self._meaning(e, doing)
                if not (in_the_way or _is_passing(e)):
                    raise trouble from None
            time.sleep(pause_s)
        if in_the_way:
            raise EnvironmentTrouble(f"'{self}': {doing}: other writers are in the way (409) for {PATIENCE_S:g} s")
        raise trouble

    def _request(self, request: Callable[[Any], Answer]) -> Answer:
        try:
            import obstore
        except ImportError as e:
            raise StoreError(f"'{self}': buckets need an extra: pip install 'softlabels[cloud]'") from e
        return request(obstore)

    def _meaning(self, e: Exception, doing: str) -> Exception:
        """What an error of obstore is here; its text is read, never quoted."""
        if isinstance(e, SoftLabelsError):
            return e
        text, status = str(e), _status(e)
        code = re.search(r"<Code>(\w+)</Code>", text)
        if re.search("NoSuchBucket|ContainerNotFound|bucket does not exist", text) or (
            isinstance(e, FileNotFoundError) and doing.startswith("writing")
        ):
            return StoreError(f"'{self}': there is no such bucket, or it is not yours; create it, or correct the URL")
        if isinstance(e, FileNotFoundError):
            return FileNotFoundError(errno.ENOENT, "no such object", f"{self}: {doing}")
        if status in (401, 403) or ROLE.search(text):
            what = f"HTTP {status} {code[1] if code else ''}".strip() if status else "no credentials"
            return EnvironmentTrouble(
                f"'{self}': {doing}: access denied ({what}); credentials are taken from the environment: "
                f"{CREDENTIALS[self.url[:2]]}"
            )
        if "BadScheme" in text:
            return EnvironmentTrouble(f"'{self}': the endpoint is http://, which needs AWS_ALLOW_HTTP=true")
        if "redirect" in text:
            return EnvironmentTrouble(f"'{self}': the bucket is in another region; name it in AWS_REGION")
        if status == 501 or "NotSupported" in type(e).__name__:
            return StoreError(f"'{self}': {doing}: the server does not do conditional writes; label into another place")
        if status == 412:
            return EnvironmentTrouble(f"'{self}': {doing}: it was replaced meanwhile")
        what = f"HTTP {status} {code[1] if code else ''}".strip() if status else "no connection, or no answer"
        return EnvironmentTrouble(f"'{self}': {doing}: {what}")

    @cached_property
    def _client(self) -> "ObjectStore":
        return _connect(self.url, patience_s=PATIENCE_S)

    @cached_property
    def _once(self) -> "ObjectStore":
        """Never tries again by itself: a conditional write has to know whether it did."""
        return _connect(self.url, patience_s=0)


_connected_in: set[int] = set()  # the process that made connections: its threads do not survive a fork


def _connect(url: str, *, patience_s: float) -> "ObjectStore":
    """Raises: StoreError: settings that obstore cannot use; EnvironmentTrouble: in a forked process."""
    import obstore.store

    if _connected_in - {os.getpid()}:
        raise EnvironmentTrouble(
            f"'{url}': this process was forked from one that reads buckets, which would wait for ever; start worker "
            "processes with 'spawn'"
        )
    _connected_in.add(os.getpid())
    kind = {"s3": obstore.store.S3Store, "gs": obstore.store.GCSStore, "az": obstore.store.AzureStore}[url[:2]]
    bucket, _, prefix = url.partition("://")[2].partition("/")
    client = {
        "timeout": datetime.timedelta(seconds=REQUEST_S),
        "connect_timeout": datetime.timedelta(seconds=CONNECT_S),
    }
    if any(LOOPBACK.match(os.environ.get(name, "")) for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT")):
        client["allow_http"] = True
    retry = {
        "max_retries": 20 if patience_s else 0,
        "retry_timeout": datetime.timedelta(seconds=patience_s),
        "backoff": {"init_backoff": datetime.timedelta(seconds=0.1), "max_backoff": datetime.timedelta(seconds=5)},
    }
    try:
        return kind(bucket, prefix=prefix or None, client_options=client, retry_config=retry)
    except Exception as e:
        said = str(e).partition("\n")[0].rpartition(": ")[2]
        raise StoreError(f"'{url}': {said}; settings are taken from the environment: {CREDENTIALS[url[:2]]}") from None


def _whole(data: bytes) -> dict[str, Any]:
    """Options of every write: one request, and the digest beside the bytes."""
    return {"attributes": {"sha256": hashlib.sha256(data).hexdigest()}, "use_multipart": False}


def _read(found: Any) -> tuple[bytes, str | None]:
    return bytes(found.bytes()), found.attributes.get("sha256")


def _pauses() -> Iterator[float]:
    """Seconds to wait before the next try, growing and random, until patience is at its end."""
    until, longest = time.monotonic() + PATIENCE_S, 0.1
    while time.monotonic() < until:
        yield random.uniform(0, longest)
        longest = min(5.0, 2 * longest)


def _status(e: Exception) -> int | None:
    found = re.search(r"status code: (\d{3})", str(e))
    return int(found[1]) if found else None


def _already_exists(e: Exception) -> bool:
    return type(e).__name__ == "AlreadyExistsError"


def _is_passing(e: Exception) -> bool:
    status, text = _status(e), str(e)
    if status is not None:
        return status in PASSING
    return "HTTP error" in text and "BadScheme" not in text and not ROLE.search(text)
