"""open_storage(): the one place that chooses between a folder and a bucket."""

from pathlib import Path

from softlabels.storage.local import LocalStorage
from softlabels.storage.location import Location, location
from softlabels.storage.protocol import Storage


def open_storage(where: str | Path) -> Storage:
    """The storage at a path, or at a URL file://, s3://, gs:// or az://.

    Raises: StoreError: a URL that cannot be used, or with credentials in it.
    """
    at: Location = location(where)
    if isinstance(at, Path):
        return LocalStorage(at)
    from softlabels.storage.bucket import ObjectStorage

    return ObjectStorage(at)
