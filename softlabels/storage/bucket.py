"""A bucket, or a prefix in one, as a place for a store or for recordings: S3, Google Cloud Storage, Azure, by obstore.

Every object carries the sha256 of its bytes as metadata, so a body that was damaged on the way is noticed by whoever
reads it. (obstore's own `checksum_algorithm` is of S3 only, is left to the server to check, and never on reading.)
Errors quote neither the address of a request nor the server's answer, for both may hold credentials.
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
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Literal, TypeVar

from softlabels.digests import sha256_of_bytes
from softlabels.errors import EnvironmentTrouble, SoftLabelsError, StoreError
from softlabels.storage.file_cache import user_cache
from softlabels.storage.protocol import TEMPORARY, Storage, may_sweep
from softlabels.threads import in_threads

if TYPE_CHECKING:
    from obstore import GetOptions, ObjectMeta, PutResult
    from obstore.store import AzureStore, ClientConfig, GCSStore, RetryConfig, S3Store

    ObjectStore = S3Store | GCSStore | AzureStore

Answer = TypeVar("Answer")
PATIENCE_S = 60.0  # how long a request is tried again before the work is put off
CHANGED_TRIES = 3  # how often bytes that came damaged are asked for, or sent, again
REPAIR_S = 2.0
REQUEST_S, CONNECT_S = 300, 5
REQUESTS_AT_ONCE = 32  # where many objects are read
PAGE = 1000  # keys an answer to a listing
PIECE = 8 << 20  # bytes a request of a download
LOOPBACK = re.compile(r"http://(localhost|127\.0\.0\.1|\[::1\])([:/]|$)")
CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the role of the machine",
    "gs": "GOOGLE_SERVICE_ACCOUNT, or the account of the machine",
    "az": "AZURE_STORAGE_ACCOUNT_NAME with AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN",
}

NO_BUCKET = "NoSuchBucket|ContainerNotFound|bucket does not exist"  # comes as a missing object, or as GenericError
TYPES: dict[str, str] = {
    "FileNotFoundError": "missing",
    "AlreadyExistsError": "in the way",  # of a conditional write; of any other request it is a 409
    "PreconditionError": "replaced",
    "PermissionDeniedError": "denied",
    "UnauthenticatedError": "denied",
    "NotSupportedError": "unsupported",
}
TEXTS: dict[str, str] = {  # of GenericError: every answer to a listing, the statuses without a type, no answer at all
    r"status code: (408|429|50[0234])": "passing",
    r"status code: 409": "in the way",
    r"status code: 40[13]|latest/api/token|latest/meta-data|metadata\.google": "denied",  # the last three: no role
    r"status code: 501": "unsupported",
    r"BadScheme": "http",
    r"(Received|following) redirect": "region",
    r"status code": "",
    r"HTTP error": "passing",
}
MEANINGS: dict[str, tuple[type[SoftLabelsError], str]] = {
    "no bucket": (StoreError, "there is no such bucket, or it is not yours; create it, or correct the URL"),
    "in the way": (EnvironmentTrouble, "{doing}: other writers are in the way (409) for {patience:g} s"),
    "replaced": (EnvironmentTrouble, "{doing}: it was replaced meanwhile"),
    "denied": (
        EnvironmentTrouble,
        "{doing}: access denied ({what}); credentials are taken from the environment: {credentials}",
    ),
    "unsupported": (StoreError, "{doing}: the server does not do conditional writes; label into another place"),
    "http": (EnvironmentTrouble, "the endpoint is http://, which needs AWS_ALLOW_HTTP=true"),
    "region": (EnvironmentTrouble, "the bucket is in another region; name it in AWS_REGION"),
}


class ObjectStorage(Storage):
    """A `Storage` in a bucket.

    Writes are whole objects; put-if-absent is the provider's conditional write.

    Args:
      url: as `location` returns it.
    """

    def __init__(self, url: str) -> None:
        self.url = url

    def __str__(self) -> str:
        return self.url

    def __reduce__(self) -> tuple[type["ObjectStorage"], tuple[str]]:
        return ObjectStorage, (self.url,)

    def check(self, *, by_writing: bool = True) -> None:
        """See, before any work is done, whether the bucket can be written and writes conditionally.

        Raises: StoreError.
        """
        if not by_writing:
            return
        key = f"{TEMPORARY}{secrets.token_hex(8)}"
        try:
            created = [self.put_if_absent(key, b"first"), self.put_if_absent(key, b"second")]
            self._delete(key)
        except EnvironmentTrouble as e:
            raise StoreError(str(e)) from None
        if created != [True, False]:
            raise StoreError(
                f"'{self}' does not support conditional writes (If-None-Match): two runs could not be told apart; "
                "label into another place"
            )

    def is_there(self) -> bool:
        """Whether anything is here; one request, however much it is. Raises: StoreError: there is no such bucket."""
        return bool(self._ask("listing", lambda: next(iter(self._client.list(chunk_size=1)), None)))

    def names(self) -> set[str]:
        found = self._ask("listing", lambda: self._client.list_with_delimiter())
        names = [meta["path"] for meta in found["objects"]] + list(found["common_prefixes"])
        return {name for name in names if not name.startswith(TEMPORARY)}

    def get(self, key: str) -> bytes:
        """As everywhere. Raises: StoreError, too: they are not the bytes that were written."""
        for tries_left in reversed(range(CHANGED_TRIES)):
            data, expected = self._read(key)
            found = sha256_of_bytes(data)
            if expected in (None, found):
                return data
            if tries_left:
                time.sleep(random.uniform(0, REPAIR_S))  # its writer may be about to mend it
        raise StoreError(f"'{self}': {key} is damaged: it was written as sha256:{expected}, it is sha256:{found}")

    def get_content(self, key: str, sha256: str, most: int) -> bytes:
        with user_cache().borrow(sha256, lambda: [self.get_small(key, most)]) as path:
            return path.read_bytes()

    def get_many(self, keys: Iterable[str]) -> Iterator[bytes]:
        return in_threads(self.get, ((key,) for key in keys), threads=REQUESTS_AT_ONCE)

    def exists(self, key: str) -> bool:
        try:
            self.state(key)
        except FileNotFoundError:
            return False
        return True

    def state(self, key: str) -> tuple[int, str]:
        """(size in bytes, entity tag) of an object; the tag is another one once its bytes are. FileNotFoundError."""
        return _state(self._ask(f"looking at {key}", lambda: self._client.head(key)))

    def states(self, folder: str) -> dict[str, tuple[int, str]]:
        """key -> state of every object in a folder, "" for the top, without those in folders below."""
        found = self._ask(f"listing {folder}", lambda: self._client.list_with_delimiter(folder))
        return {meta["path"]: _state(meta) for meta in found["objects"]}

    def list(self, folder: str) -> dict[str, int]:
        """As everywhere; asked for page by page."""
        sizes = self._ask(f"listing {folder}", lambda: {m["path"]: m["size"] for m in self._objects(folder)})
        return dict(sorted(sizes.items()))

    def pieces(self, key: str, size: int, tag: str) -> Iterator[bytes]:
        """The bytes of one state of an object, a request a piece. Raises: EnvironmentTrouble: it was replaced."""
        for start in range(0, size, PIECE):
            options: GetOptions = {"range": (start, min(start + PIECE, size)), **({"if_match": tag} if tag else {})}
            yield self._read(key, options)[0]

    def put(self, key: str, data: bytes) -> None:
        """As everywhere; what cannot be written undamaged is not left under its key."""
        for _ in range(CHANGED_TRIES):
            made = self._ask(f"writing {key}", lambda: _write(self._client, key, data, "overwrite"))
            if self._arrived(key, data, made):
                return
        self._delete(key)
        raise EnvironmentTrouble(f"'{self}': {key} is damaged on its way, {CHANGED_TRIES} times")

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """As everywhere.

        An answer may be lost after the object was written; if the next try finds these very bytes, they count as
        written by this call. Two writers of equal bytes may then both be told so.
        """
        unsure = False
        for pause_s in _pauses():
            try:
                made = _write(self._once, key, data, "create")
            except Exception as e:  # whatever obstore raises is given a meaning
                kind, trouble = self._trouble(e, f"writing {key}")
            else:
                if not self._arrived(key, data, made):
                    self.put(key, data)
                return True
            if kind == "in the way":
                with contextlib.suppress(FileNotFoundError):  # a 409 may only mean that a write is under way
                    there = self.get(key)
                    return unsure and there == data
            elif kind == "passing":
                unsure = True
            else:
                raise trouble
            time.sleep(pause_s)
        raise trouble

    def sweep(self, folder: str, keep: set[str], *, older_than_s: float) -> int:
        spare = self._ask(
            f"listing {folder}",
            lambda: [
                m
                for m in self._objects(folder)
                if m["path"] not in keep and may_sweep(folder, PurePosixPath(m["path"]).name)
            ],
        )
        if not spare:
            return 0
        before = self._clock() - datetime.timedelta(seconds=older_than_s)
        stale = [meta["path"] for meta in spare if meta["last_modified"] < before]
        if stale:
            self._delete(stale)
        return len(stale)

    def _clock(self) -> datetime.datetime:
        """The time now, by the clock of the server that dates the objects."""
        key = f"{TEMPORARY}{secrets.token_hex(8)}"
        self.put(key, b"now")
        made = self._ask(f"looking at {key}", lambda: self._client.head(key))
        self._delete(key)
        return made["last_modified"]

    def _objects(self, folder: str) -> Iterator["ObjectMeta"]:
        for page in self._client.list(folder, chunk_size=PAGE):
            for meta in page:
                path = PurePosixPath(meta["path"])
                if str(path.parent) == folder and not path.name.startswith(TEMPORARY):
                    yield meta

    def _read(self, key: str, options: "GetOptions | None" = None) -> tuple[bytes, str | None]:
        """The bytes of an object, and the sha256 it carries."""

        def read() -> tuple[bytes, str | None]:
            found = self._client.get(key, options=options)
            return bytes(found.bytes()), found.attributes.get("sha256")

        return self._ask(f"reading {key}", read)

    def _delete(self, keys: str | Sequence[str]) -> None:
        what = keys if isinstance(keys, str) else f"{len(keys)} objects"
        self._ask(f"deleting {what}", lambda: self._client.delete(keys))

    def _arrived(self, key: str, data: bytes, made: "PutResult") -> bool:
        """Whether the object is what was sent: its tag is the MD5, as S3 makes it, or it is read back."""
        tag = (made["e_tag"] or "").strip('"')
        return tag == hashlib.md5(data, usedforsecurity=False).hexdigest() or self._read(key)[0] == data

    def _ask(self, doing: str, request: Callable[[], Answer]) -> Answer:
        """The answer to a request. obstore asks again by itself, but not after a 409, nor on every lost connection.

        Raises: FileNotFoundError: no such object; StoreError: no such bucket; EnvironmentTrouble.
        """
        for pause_s in _pauses():
            try:
                return request()
            except Exception as e:  # whatever obstore raises is given a meaning
                kind, trouble = self._trouble(e, doing)
                if kind not in ("in the way", "passing"):
                    raise trouble from None
            time.sleep(pause_s)
        raise trouble

    def _trouble(self, e: Exception, doing: str) -> tuple[str, Exception]:
        """What went wrong, and the error that it is here."""
        if isinstance(e, SoftLabelsError):
            return "", e
        kind, text = _kind(e), str(e)
        if kind == "missing" and doing.startswith("writing"):
            kind = "no bucket"
        if kind == "missing":
            return kind, FileNotFoundError(errno.ENOENT, "no such object", f"{self}: {doing}")
        status, code = re.search(r"status code: (\d{3})", text), re.search(r"<Code>(\w+)</Code>", text)
        nothing = "no credentials" if kind == "denied" else "no connection, or no answer"
        what = f"HTTP {status[1]} {code[1] if code else ''}".strip() if status else nothing
        error, meaning = MEANINGS.get(kind, (EnvironmentTrouble, "{doing}: {what}"))
        meaning = meaning.format(doing=doing, what=what, patience=PATIENCE_S, credentials=CREDENTIALS[self.url[:2]])
        return kind, error(f"'{self}': {meaning}")

    @cached_property
    def _client(self) -> "ObjectStore":
        return _connect(self.url, patience_s=PATIENCE_S)

    @cached_property
    def _once(self) -> "ObjectStore":
        """Never tries again by itself: a conditional write has to know whether it did."""
        return _connect(self.url, patience_s=0)


_connected_in: set[int] = set()  # the process that made connections: its threads do not survive a fork


def _connect(url: str, *, patience_s: float) -> "ObjectStore":
    """Raises: StoreError: no obstore, or settings that it cannot use; EnvironmentTrouble: in a forked process."""
    try:
        import obstore.store
    except ImportError as e:
        raise StoreError(f"'{url}': buckets need an extra: pip install 'softlabels[cloud]'") from e
    if _connected_in - {os.getpid()}:
        raise EnvironmentTrouble(
            f"'{url}': this process was forked from one that reads buckets, which would wait for ever; start worker "
            "processes with 'spawn'"
        )
    _connected_in.add(os.getpid())
    kind = {"s3": obstore.store.S3Store, "gs": obstore.store.GCSStore, "az": obstore.store.AzureStore}[url[:2]]
    bucket, _, prefix = url.partition("://")[2].partition("/")
    client: ClientConfig = {
        "timeout": datetime.timedelta(seconds=REQUEST_S),
        "connect_timeout": datetime.timedelta(seconds=CONNECT_S),
    }
    if any(LOOPBACK.match(os.environ.get(name, "")) for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT")):
        client["allow_http"] = True
    retry: RetryConfig = {
        "max_retries": 20 if patience_s else 0,
        "retry_timeout": datetime.timedelta(seconds=patience_s),
        "backoff": {"init_backoff": datetime.timedelta(seconds=0.1), "max_backoff": datetime.timedelta(seconds=5)},
    }
    try:
        return kind(bucket, prefix=prefix or None, client_options=client, retry_config=retry)
    except Exception as e:
        why = str(e).partition("\n")[0].rpartition(": ")[2]
        raise StoreError(f"'{url}': {why}; settings are taken from the environment: {CREDENTIALS[url[:2]]}") from None


def _write(client: "ObjectStore", key: str, data: bytes, mode: Literal["create", "overwrite"]) -> "PutResult":
    """One request, with the digest beside the bytes."""
    return client.put(key, data, mode=mode, attributes={"sha256": sha256_of_bytes(data)}, use_multipart=False)


def _state(meta: "ObjectMeta") -> tuple[int, str]:
    return meta["size"], meta["e_tag"] or ""


def _pauses() -> Iterator[float]:
    """Seconds to wait before the next try, growing and random, until patience is at its end."""
    until, longest = time.monotonic() + PATIENCE_S, 0.1
    while time.monotonic() < until:
        yield random.uniform(0, longest)
        longest = min(5.0, 2 * longest)


def _kind(e: Exception) -> str:
    """What an error of obstore is; its text is read where the type does not tell, and never quoted."""
    text = str(e)
    if re.search(NO_BUCKET, text):
        return "no bucket"
    return TYPES.get(type(e).__name__) or next((kind for words, kind in TEXTS.items() if re.search(words, text)), "")
