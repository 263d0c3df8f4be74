"""A store in a bucket: the same five operations, one winner of every race, and copies that are checked."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from bucket import BUCKET, served
from test_spec import fine_tuning, pretraining
from test_store import raced

from plm import bucket as buckets
from plm.bucket import Bucket
from plm.claim import Busy
from plm.store import VOUCHED, Store, sha256, step_name


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with served() as address:
        yield address


@pytest.fixture
def store(address, tmp_path, monkeypatch) -> Store:
    """A store below a prefix of its own, seen from a machine without copies."""
    monkeypatch.setenv("PLM_CACHE", str(tmp_path / "cache"))
    return Store.at(f"s3://{BUCKET}/tests/{uuid.uuid4().hex}?endpoint_override={address}")


def elsewhere(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """The same store, seen from another machine."""
    monkeypatch.setenv("PLM_CACHE", str(tmp_path / "elsewhere"))
    return Store.at(store.location)


def finished(store: Store, spec=None):
    spec = spec or fine_tuning()
    folder = store.run(spec)
    with folder.claim(spec) as attempt:
        attempt.finish({n: b"[]" for n in VOUCHED if n != "spec.json"})
    return folder


# Addresses


@pytest.mark.parametrize(
    ("location", "parsed"),
    [
        ("s3://b", Bucket("b")),
        ("s3://b/p/q/", Bucket("b", "p/q")),
        ("s3://b/p?endpoint_override=http://127.0.0.1:9000", Bucket("b", "p", "http://127.0.0.1:9000")),
        ("s3://b?region=eu-west-1&endpoint_override=host", Bucket("b", "", "https://host", "eu-west-1")),
    ],
)
def test_an_address_is_read_and_written(location, parsed, monkeypatch):
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    assert Bucket.parse(location) == parsed
    assert Bucket.parse(parsed.location) == parsed


def test_a_server_of_the_environment_is_part_of_the_address(monkeypatch):
    """Two servers are two places with copies of their own, and a worker without the variable asks the same server."""
    caches = set()
    for name, server in (("AWS_ENDPOINT_URL", "http://one:9000/"), ("AWS_ENDPOINT_URL_S3", "http://two:9000")):
        monkeypatch.setenv(name, server)
        bucket = Bucket.parse("s3://b/p")
        assert bucket == Bucket.parse(f"s3://b/p?endpoint_override={server}") == Bucket("b", "p", server.rstrip("/"))
        caches.add(bucket.cache)
        with monkeypatch.context() as elsewhere:
            elsewhere.delenv(name)
            assert Bucket.parse(bucket.location) == bucket
    assert len(caches) == 2
    assert Bucket.parse("s3://b?endpoint_override=http://three").endpoint == "http://three"


@pytest.mark.parametrize(
    ("profile", "options", "said"),
    [
        ("nope", "", r"s3://b: .*config profile \(nope\).*set credentials"),
        ("", "&region=eu%20west", r"s3://b: .*'eu west'"),
    ],
)
def test_a_profile_or_region_that_is_none_is_refused_as_the_rest_is(profile, options, said, monkeypatch):
    if profile:
        monkeypatch.setenv("AWS_PROFILE", profile)
    buckets._client.cache_clear()
    with pytest.raises(ValueError, match=said):
        Bucket.parse(f"s3://b?endpoint_override=http://127.0.0.1:9{options}").check()


@pytest.mark.parametrize(
    ("location", "said"),
    [
        ("s3://b?endpoint_override=http://key:hunter2@host", "holds no credentials"),
        ("s3:///runs", "give a path .* or s3://bucket/prefix"),
        ("s3://b/../c", "no '.' or '..'"),
        ("s3://b?access_key=k", "no option 'access_key'; there are endpoint_override, region"),
        ("s3://key:hunter2@b/runs", "holds no credentials: set AWS_ACCESS_KEY_ID"),
        ("gs://key:hunter2@b/runs", "give a path"),
    ],
)
def test_a_wrong_address_is_refused_and_no_secret_repeated(location, said):
    with pytest.raises(ValueError, match=said) as refused:
        Store.at(location)
    assert "hunter2" not in str(refused.value)


def test_a_bucket_that_is_not_there_is_refused(address):
    with pytest.raises(ValueError, match=r"s3://nowhere: .*NoSuchBucket.* Create the bucket, or set credentials"):
        Store.at(f"s3://nowhere?endpoint_override={address}")


def test_a_server_that_is_away_is_refused_and_later_looks_like_a_disk_that_is(store, monkeypatch):
    monkeypatch.setattr(buckets, "_client", lambda *_: _away())
    with pytest.raises(ValueError, match="Could not connect"):
        Store.at(store.location)
    for operation in (lambda: store.get("a"), lambda: store.put("a", b""), lambda: store.create("a", b"")):
        with pytest.raises(OSError, match="Could not connect"):
            operation()


def _away():
    from botocore.config import Config

    config = Config(retries={"total_max_attempts": 1})
    return boto3.client("s3", endpoint_url="http://127.0.0.1:9", config=config)


# Objects


def test_put_get_list_delete(store):
    assert store.get("a/b") is None
    assert store.list("a") == []
    store.put("a/b", b"1")
    store.put("a/b", b"2")
    store.put("a/c/d", b"3")
    store.put("ab", b"4")
    assert store.get("a/b") == b"2"
    assert store.get("a/c") is None
    assert store.list("a") == ["b", "c"]
    assert store.list("") == ["a", "ab"]
    for key in ("a/c", "a/b", "a/b"):
        store.delete(key)
    assert store.list("a") == []
    assert store.get("ab") == b"4"


def test_more_objects_than_a_page(store, monkeypatch):
    """A page of the protocol has 1,000; here 2."""
    client = buckets._client(store.bucket.endpoint, None)
    real = client.list_objects_v2
    monkeypatch.setattr(client, "list_objects_v2", lambda **request: real(**request | {"MaxKeys": 2}))
    for name in "abcde":
        store.put(f"many/{name}", b"")
    assert store.list("many") == [*"abcde"]
    store.delete("many")
    assert store.list("many") == []


def test_one_creator_wins(store):
    assert len(raced(lambda _: store.create("a/b", b"all write the same"))) == 1
    assert not store.create("a/b", b"another")
    assert store.get("a/b") == b"all write the same"


def test_an_answer_that_was_lost_costs_no_claim(store, monkeypatch):
    """The client asks again, and is told that there is one: its own."""
    client = buckets._client(store.bucket.endpoint, None)
    real = client.put_object

    def twice(**request):
        real(**request)
        return real(**request)

    monkeypatch.setattr(client, "put_object", twice)
    assert store.create("a/b", b"1")


def test_a_server_without_conditional_puts_is_refused(store, monkeypatch):
    client = buckets._client(store.bucket.endpoint, None)
    real = client.put_object
    monkeypatch.setattr(client, "put_object", lambda IfNoneMatch, **request: real(**request))
    monkeypatch.setattr(buckets, "_TRUSTED", set())
    with pytest.raises(OSError, match="overwrites objects where it is asked not to"):
        store.create("a/b", b"1")
    assert store.get("a/b") is None


def test_pyarrow_sees_the_same_objects(store, address, monkeypatch):
    """By an address that names the server, and by the environment."""
    store.put("a/b", b"1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)
    for bucket in (store.bucket, Bucket.parse(str(store.bucket))):
        with bucket.filesystem().open_input_stream(f"{bucket.path}/a/b") as file:
            assert file.read() == b"1"


# Runs


def test_a_finished_run_is_seen_from_another_machine(store, tmp_path, monkeypatch):
    finished(store)
    there = elsewhere(store, tmp_path, monkeypatch)
    assert there.root != store.root
    assert there.run(fine_tuning()).status() == "done"
    with pytest.raises(Busy, match="finished meanwhile"):
        there.run(fine_tuning()).claim(fine_tuning())
    store.put(f"runs/{fine_tuning().run_id}/result.json", b"{}")
    with pytest.raises(ValueError, match=rf"s3://{BUCKET}/tests/.*result.json changed after"):
        there.run(fine_tuning()).status()


def test_a_live_claim_holds_and_a_stale_one_is_taken_over(store):
    spec = fine_tuning()
    folder = store.run(spec)
    folder.claim(spec)
    with pytest.raises(Busy, match="being trained"):
        folder.claim(spec)
    key = f"{folder.key}/attempts/0001.json"
    record = store.json(key)
    record["holder"] |= {"machine": "another"}
    store.put(key, json.dumps(record | {"renewed": record["renewed"] - 61}).encode())
    assert folder.claim(spec).number == 2


def test_a_checkpoint_is_copied_once_and_again_if_the_copy_is_spoilt(store, tmp_path, monkeypatch):
    spec = pretraining()
    finished(store, spec).put_checkpoint(20, {"model.safetensors": b"weights", "config.json": b"{}"})
    there = elsewhere(store, tmp_path, monkeypatch)
    held = there.checkpoint(spec.at(20))
    assert {p.name: p.read_bytes() for p in held.iterdir() if p.name != "manifest.json"} == {
        "model.safetensors": b"weights",
        "config.json": b"{}",
    }
    asked: list[str] = []
    real = Bucket.get
    monkeypatch.setattr(Bucket, "get", lambda self, key: asked.append(key) or real(self, key))
    there.checkpoint(spec.at(20))
    assert not [key for key in asked if key.endswith(".safetensors")]
    (held / "model.safetensors").write_bytes(b"spoilt")
    assert (there.checkpoint(spec.at(20)) / "model.safetensors").read_bytes() == b"weights"
    store.put(f"runs/{spec.run_id}/checkpoints/{step_name(20)}/model.safetensors", b"spoilt")
    (held / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="no complete checkpoint at step 20"):
        there.checkpoint(spec.at(20))


@pytest.mark.parametrize("name", ["../../../../escaped", "..", "/tmp/escaped", "a/b"])
def test_a_manifest_cannot_name_a_file_outside_its_folder(store, name):
    spec = pretraining()
    folder = finished(store, spec)
    place = f"{folder.key}/checkpoints/{step_name(20)}"
    folder.put_checkpoint(20, {"model.safetensors": b"weights"})
    store.put(f"{place}/{name}", b"evil")
    sums = {"model.safetensors": sha256(b"weights"), name: sha256(b"evil")}
    store.put(f"{place}/manifest.json", json.dumps(sums).encode())
    assert not folder.verify_checkpoint(step_name(20))
    assert not list(store.root.parent.rglob("escaped"))
    assert not list(store.root.rglob("model.safetensors"))
