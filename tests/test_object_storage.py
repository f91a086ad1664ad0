"""A bucket as a place for bytes: put-if-absent, retries, damaged bodies, and errors that give nothing away."""

import os
import subprocess
import sys
import traceback
from collections.abc import Iterator

import pytest
from bucket import SECRET, Server, serve, use_buckets

from softlabels.errors import EnvironmentTrouble, SoftLabelsError, StoreError
from softlabels.storage.bucket import ObjectStorage
from softlabels.storage.local import LocalStorage
from softlabels.storage.opening import open_storage

RACERS = """
import dataclasses, hashlib, os, sys
sys.path.insert(0, "tests")
from test_storage import receipt
from softlabels.records.receipts import commit_shard
from softlabels.storage.opening import open_storage

gate, start = os.pipe()
children = []
for n in range(16):
    child = os.fork()
    if not child:
        os.close(start)
        storage = open_storage(sys.argv[1])
        storage.names()
        os.read(gate, 1)  # until all are there
        made = receipt(hashlib.sha256(b"22").hexdigest(), 2)
        numerics = hashlib.sha256(sys.argv[2].format(n).encode()).hexdigest()
        outcome, _ = commit_shard(storage, b"22", dataclasses.replace(made, numerics_class=numerics))
        os.write(1, f"{outcome}\\n".encode())
        os._exit(0)
    children.append(child)
os.close(start)
for child in children:
    os.waitpid(child, 0)
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serve() as running:
        yield running


@pytest.fixture
def storage(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStorage]:
    """A prefix of a new bucket, through the proxy; nobody is patient."""
    use_buckets(monkeypatch, server, patience_s=0.3)
    server.proxy.requests.clear()
    yield ObjectStorage(f"s3://{server.make_bucket()}/some where/store")
    server.proxy.spoil("")


@pytest.fixture
def proxy(server: Server):
    return server.proxy


def test_what_has_not_changed_costs_one_request(storage, proxy) -> None:
    storage.put_if_changed("k", b"1")
    proxy.requests.clear()
    storage.put_if_changed("k", b"1")
    assert [request.split()[0] for request in proxy.requests] == ["GET"]


def test_a_listing_asks_page_by_page(storage, proxy) -> None:
    for n in range(5):
        storage.put(f"receipts/{n}", b"1")
    proxy.requests.clear()
    proxy.spoil("small-pages")
    assert storage.list("receipts") == {f"receipts/{n}": 1 for n in range(5)}
    assert len(proxy.requests) == 3
    proxy.requests.clear()
    assert storage.is_there()
    assert len(proxy.requests) == 1, "to see whether there is something, one page will do"
    assert not ObjectStorage(f"{storage}/nothing").is_there()


def test_a_connection_that_obstore_does_not_open_again_is_asked_again(storage, monkeypatch) -> None:
    """A server closes a kept connection just as it is used: obstore gives up at once, though nothing is wrong."""
    storage.put("k", b"1")
    client = type(storage._client)
    answered, asked = client.get, []

    def get(self, key, **options):
        asked.append(key)
        if len(asked) == 1:
            raise RuntimeError("Generic S3 error: HTTP error: error sending request")
        return answered(self, key, **options)

    monkeypatch.setattr(client, "get", get)
    assert storage.get("k") == b"1"
    assert len(asked) == 2


@pytest.mark.engines
@pytest.mark.parametrize("fault", ["drop", "409", "500", "503", "delay", "corrupt"])
def test_every_call_survives_every_third_request_going_wrong(storage, proxy, fault: str) -> None:
    proxy.spoil(fault, every=3)
    for n in range(4):
        storage.put(f"p/{n}", b"put")
        assert storage.put_if_absent(f"a/{n}", b"absent")
        assert not storage.put_if_absent(f"a/{n}", b"another")
        assert storage.get(f"p/{n}") == b"put"
        assert storage.exists(f"a/{n}")
        assert len(storage.list("a")) == n + 1
    proxy.spoil("")
    assert {storage.get(key) for key in storage.list("a")} == {b"absent"}
    assert {storage.get(key) for key in storage.list("p")} == {b"put"}


def test_a_lost_answer_is_known_to_be_our_own_write(storage, proxy) -> None:
    proxy.spoil("drop", only="PUT", times=1)
    assert storage.put_if_absent("k", b"ours")
    assert storage.get("k") == b"ours"


def test_a_lost_answer_does_not_claim_the_write_of_another(storage, proxy) -> None:
    storage.put("k", b"theirs")
    proxy.spoil("drop", only="PUT", times=1)
    assert not storage.put_if_absent("k", b"ours")


def test_a_conflict_without_an_object_is_asked_again(storage, proxy) -> None:
    proxy.spoil("409", only="PUT", times=2)
    assert storage.put_if_absent("k", b"ours")
    proxy.spoil("409", only="list-type", times=2)
    storage.put("a/k", b"1")
    assert storage.list("a") == {"a/k": 1}


@pytest.mark.engines
@pytest.mark.parametrize("fault", ["drop", "409", "500", "503"])
def test_a_server_that_stays_out_of_order_is_trouble_of_the_machine(storage, proxy, fault: str) -> None:
    proxy.spoil(fault)
    for call in (
        lambda: storage.put("k", b"1"),
        lambda: storage.put_if_absent("k", b"1"),
        lambda: storage.get("k"),
        lambda: storage.list("a"),
    ):
        with pytest.raises(EnvironmentTrouble, match="'s3://bucket-"):
            call()


def test_a_body_damaged_every_time_is_never_left_under_its_name(storage, proxy) -> None:
    proxy.spoil("corrupt", only="PUT")
    with pytest.raises(EnvironmentTrouble, match="receipts/1 is damaged on its way, 3 times"):
        storage.put_if_absent("receipts/1", b"ours")
    proxy.spoil("")
    assert not storage.exists("receipts/1")


def test_an_object_whose_bytes_were_changed_is_refused(storage, proxy) -> None:
    storage.put("k", b"1")
    proxy.spoil("corrupt", only="GET")
    with pytest.raises(StoreError, match="k is damaged: it was written as sha256:6b86b2"):
        storage.get("k")


@pytest.mark.parametrize("who", ["same receipt", "receipt {}"])
def test_of_sixteen_processes_one_commits_a_shard_and_fifteen_are_told(storage, who: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", RACERS, str(storage), who], capture_output=True, text=True, timeout=60, check=False
    )
    assert sorted(done.stdout.split()) == ["committed", *["equal"] * 15], done.stderr
    assert len(storage.list("receipts")) == 1


def test_a_forked_process_is_told_that_it_would_wait_for_ever(storage) -> None:
    storage.put("k", b"1")
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            ObjectStorage(storage.url).get("k")
        except EnvironmentTrouble as e:
            os.write(writer, str(e).encode())
        os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader) as answer:
        assert "start worker processes with 'spawn'" in answer.read()


def test_a_bucket_that_does_not_exist_is_named(storage) -> None:
    nowhere = ObjectStorage("s3://bucket-nowhere/store")
    for call in (nowhere.check, nowhere.names, lambda: nowhere.get("store.json"), lambda: nowhere.put("k", b"1")):
        with pytest.raises(StoreError, match="'s3://bucket-nowhere/store': there is no such bucket"):
            call()


def test_a_server_without_conditional_writes_is_refused(storage, proxy) -> None:
    proxy.spoil("ignore-condition")
    with pytest.raises(StoreError, match="does not support conditional writes"):
        storage.check()
    proxy.spoil("501", only="PUT")
    with pytest.raises(StoreError, match="the server does not do conditional writes"):
        storage.check()


def test_denied_access_says_where_credentials_come_from_and_quotes_none(storage, proxy) -> None:
    proxy.spoil("403")
    with pytest.raises(StoreError, match=r"access denied \(HTTP 403.*AWS_ACCESS_KEY_ID") as caught:
        storage.check()
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    for call in (lambda: storage.get("k"), lambda: storage.put("k", b""), lambda: storage.put_if_absent("k", b"")):
        with pytest.raises(EnvironmentTrouble, match="access denied") as caught:
            call()
        assert SECRET not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    ("fault", "complaint"),
    [
        ("301", "the bucket is in another region; name it in AWS_REGION"),
        ("401", r"access denied \(HTTP 401\)"),
        ("403", r"access denied \(HTTP 403\)"),
        ("409", r"other writers are in the way \(409\) for 0.3 s"),
        ("412", "it was replaced meanwhile|: HTTP 412"),
        ("418", "HTTP 418"),
        ("500", "HTTP 500"),
        ("drop", "no connection, or no answer"),
    ],
)
def test_what_a_server_answers_is_told_alike_by_type_and_by_text(storage, proxy, fault: str, complaint: str) -> None:
    """obstore has types for a request about one object; of a listing everything is a GenericError."""
    proxy.spoil(fault)
    for call in (lambda: storage.get("k"), lambda: storage.list("a")):
        with pytest.raises(EnvironmentTrouble, match=complaint) as caught:
            call()
        assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_an_endpoint_without_encryption_has_to_be_allowed(storage, monkeypatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://buckets.invalid")
    with pytest.raises(EnvironmentTrouble, match="the endpoint is http://, which needs AWS_ALLOW_HTTP=true"):
        ObjectStorage(storage.url).get("k")


def test_missing_credentials_are_a_clear_error(storage, monkeypatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:9")  # a machine without a role
    with pytest.raises(StoreError, match="credentials are taken from the environment: AWS_ACCESS_KEY_ID"):
        ObjectStorage(storage.url).check()


def test_azure_without_an_account_says_what_to_set(monkeypatch) -> None:
    pytest.importorskip("obstore")
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    with pytest.raises(StoreError, match=r"Account must be specified.*AZURE_STORAGE_ACCOUNT_NAME"):
        open_storage("az://container/store").names()


def test_without_obstore_the_extra_is_named(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(StoreError, match=r"pip install 'softlabels\[cloud\]'"):
        open_storage("s3://bucket/store").get("store.json")


@pytest.mark.parametrize(
    ("where", "complaint"),
    [
        ("ftp://host/store", "expected a path, s3://, gs:// or az://, got ftp://"),
        ("https://host/store?sig=hidden", "'https://host/store': expected a path"),
        ("s3://me:hidden@bucket/store", "'s3://bucket/store': expected a URL without user, password, query"),
        ("s3://bucket/store?token=hidden", "'s3://bucket/store': expected a URL without user, password, query"),
        ("s3:///store", "expected s3://bucket/prefix"),
        ("s3://bucket/a/../b", "expected s3://bucket/prefix, without empty parts"),
        ("file://host/store", "expected a path, s3://, gs:// or az://, got file://"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_without_its_secrets(where: str, complaint: str) -> None:
    with pytest.raises(SoftLabelsError, match=complaint) as caught:
        open_storage(where)
    assert "hidden" not in str(caught.value)


def test_a_path_and_a_file_url_are_local(tmp_path) -> None:
    for where in (tmp_path, str(tmp_path), f"file://{tmp_path}"):
        storage = open_storage(where)
        assert isinstance(storage, LocalStorage)
        assert storage.root == tmp_path
    assert str(open_storage("s3://bucket/prefix/")) == "s3://bucket/prefix"
    assert str(open_storage("gs://bucket")) == "gs://bucket"
