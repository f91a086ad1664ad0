"""Where a store or a folder of recordings is: a local path, or the URL of a bucket, checked once where it comes in."""

import re
import urllib.parse
from pathlib import Path

from softlabels.errors import StoreError

Location = Path | str  # a Path is local; text is the URL of a bucket or a prefix in it, without a slash at its end
SCHEMES = ("s3", "gs", "az")


def location(where: str | Path) -> Location:
    """Read what a user named: `soft_labels`, `file:///data/soft_labels` or `s3://bucket/prefix`.

    Raises: StoreError: an unknown scheme, no bucket, or a URL with a password or query string, which is not repeated:
      what is named here is written to stores and logs. ValueError: a Path of a URL.
    """
    if isinstance(where, Path):
        if re.match(r"(file|s3|gs|az):/", str(where)):
            raise ValueError(f"'{where}': expected a URL as text; a Path makes one slash of two")
        return where
    if "://" not in where:
        return Path(where)
    try:
        parts = urllib.parse.urlsplit(where)
    except ValueError as e:
        raise StoreError(f"'{without_secrets(where)}': expected a URL such as s3://bucket/prefix") from e
    if parts.scheme == "file" and not parts.netloc:
        return Path(urllib.parse.unquote(parts.path))
    if parts.scheme not in SCHEMES:
        raise StoreError(f"'{without_secrets(where)}': expected a path, s3://, gs:// or az://, got {parts.scheme}://")
    return _bucket_url(where, parts)


def _bucket_url(where: str, parts: urllib.parse.SplitResult) -> str:
    if without_secrets(where) != where:
        raise StoreError(
            f"'{without_secrets(where)}': expected a URL without user, password, query or fragment; credentials are "
            "taken from the environment"
        )
    prefix = parts.path.strip("/")
    if not parts.netloc or {"", ".", ".."} & set(prefix.split("/")[: len(prefix)]):
        raise StoreError(f"'{where}': expected {parts.scheme}://bucket/prefix, without empty parts, '.' and '..'")
    return f"{parts.scheme}://{parts.netloc}/{prefix}".rstrip("/")


def without_secrets(url: str) -> str:
    """A URL as it may be shown: whatever might be a password or a signature is cut off."""
    scheme, _, rest = re.split("[?#]", url, maxsplit=1)[0].partition("://")
    bucket, slash, path = rest.partition("/")
    return f"{scheme}://{bucket.rpartition('@')[2]}{slash}{path}"


def absolute(where: Location) -> str:
    """The same place, however the working folder changes."""
    return where if isinstance(where, str) else str(where.resolve())
