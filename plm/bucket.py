"""Objects in a bucket, by the S3 protocol: `s3://bucket/prefix`.

A claim is a conditional put (`If-None-Match: *`), which pyarrow's filesystem does not offer; hence boto3. Credentials, region
and profile come from where every AWS client looks for them, the server from `AWS_ENDPOINT_URL` or `?endpoint_override=`.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

from plm.objects import READERS

OPTIONS = ("endpoint_override", "region")
CACHE = "PLM_CACHE"
"""Environment variable: the folder of a machine for copies of what lies in buckets."""
CONFLICTS = 8
"""How often a conditional put is made again that the server calls in conflict with another one."""


@dataclass(frozen=True)
class Bucket:
    """Where objects lie; equal places, equal values."""

    name: str
    prefix: str = ""
    endpoint: str | None = None
    """The server; None: Amazon's. One that the environment names is part of the place, so that a worker without that variable
    asks the same one."""
    region: str | None = None

    @staticmethod
    def parse(location: str) -> Bucket:
        """`s3://bucket/prefix?endpoint_override=http://host:port&region=...`.

        Raises:
            ValueError: it is not of that form, or holds a secret.
        """
        parts = urlsplit(location)
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        if parts.scheme != "s3" or not parts.netloc:
            raise ValueError(
                f"store {location.partition('?')[0].rpartition('@')[2]}: give a path that every node shares, or "
                "s3://bucket/prefix."
            )
        endpoint = options.get("endpoint_override") or _environment()
        if "@" in parts.netloc + (endpoint or ""):  # not repeated: it would end up in logs
            raise ValueError(
                "a store's address holds no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE."
            )
        if unknown := sorted({*options} - {*OPTIONS}):
            raise ValueError(f"store s3://{parts.netloc}: no option {unknown[0]!r}; there are {', '.join(OPTIONS)}.")
        if endpoint is not None and not endpoint.startswith(("http://", "https://")):
            endpoint = f"https://{endpoint}"
        prefix = "/".join(part for part in parts.path.split("/") if part)
        if {".", ".."} & {*prefix.split("/")}:
            raise ValueError(f"store s3://{parts.netloc}/{prefix}: a prefix has no '.' or '..' in it.")
        return Bucket(parts.netloc, prefix, endpoint and endpoint.rstrip("/"), options.get("region"))

    def __str__(self) -> str:
        return f"s3://{self.path}"

    @property
    def location(self) -> str:
        """What `parse` reads."""
        given = {"endpoint_override": self.endpoint, "region": self.region}
        query = "&".join(f"{name}={quote(value, safe=':/')}" for name, value in given.items() if value)
        return f"{self}?{query}" if query else str(self)

    @property
    def path(self) -> str:
        """What `filesystem` calls the place."""
        return f"{self.name}/{self.prefix}".rstrip("/")

    def filesystem(self) -> Any:
        """Pyarrow's view of the server, for what needs no claims."""
        from pyarrow.fs import S3FileSystem

        return S3FileSystem(region=self.region, endpoint_override=self.endpoint)

    @property
    def cache(self) -> Path:
        """The folder of this machine for copies."""
        above = Path(os.environ.get(CACHE) or "~/.cache/plm-sweeps").expanduser().resolve()
        return above / f"{self.name}-{hashlib.sha256(self.location.encode()).hexdigest()[:12]}"

    def check(self) -> None:
        """Refuse a bucket that is not there or lets us not in.

        Raises:
            ValueError: with what the server said.
        """
        try:
            with self._asked("") as client:
                client.list_objects_v2(Bucket=self.name, Prefix=self._key(""), MaxKeys=1)
        except OSError as error:
            raise ValueError(
                f"{error} Create the bucket, or set credentials (AWS_ACCESS_KEY_ID, AWS_PROFILE, ...), region and server "
                "(AWS_ENDPOINT_URL) for it."
            ) from error

    def _key(self, key: str) -> str:
        return f"{self.prefix}/{key}" if self.prefix else key

    @contextlib.contextmanager
    def _asked(self, key: str) -> Iterator[Any]:
        """The client; what the server or the network refuses is an `OSError`, as it would be of a disk."""
        try:
            from boto3.exceptions import Boto3Error
            from botocore.exceptions import BotoCoreError, ClientError
        except ModuleNotFoundError as error:
            raise ValueError("a store in a bucket needs boto3: pip install '.[s3]'") from error
        try:
            yield _client(self.endpoint, self.region)  # a profile or a region may be none
        except (BotoCoreError, ClientError, Boto3Error) as error:
            raise OSError(f"store {self}{key and '/'}{key}: {error}.") from error

    def put(self, key: str, data: bytes) -> None:
        """One request, or for much data several parts that appear together."""
        with self._asked(key) as client:
            client.upload_fileobj(io.BytesIO(data), self.name, self._key(key))

    def create(self, key: str, data: bytes) -> bool:
        """A conditional put.

        Raises:
            OSError: the server takes such puts for plain ones, so that no claim would hold.
        """
        made = self._create(key, data)
        if made and self not in _TRUSTED:  # once a process
            if self._create(key, data):
                self.delete(key)
                raise OSError(
                    f"store {self}: its server overwrites objects where it is asked not to (If-None-Match), so two "
                    "processes would train the same run. Choose another store."
                )
            _TRUSTED.add(self)
        return made

    def _create(self, key: str, data: bytes) -> bool:
        from botocore.exceptions import ClientError

        writer = (
            uuid.uuid4().hex
        )  # an answer may be lost on its way: the client asks again, and finds what it wrote itself
        where = {"Bucket": self.name, "Key": self._key(key)}
        for attempt in range(CONFLICTS + 1):
            with self._asked(key) as client:
                try:
                    client.put_object(**where, Body=data, IfNoneMatch="*", Metadata={"writer": writer})
                    return True
                except ClientError as error:
                    status = error.response["ResponseMetadata"]["HTTPStatusCode"]
                    if status == 412:
                        with contextlib.suppress(ClientError):  # it was removed again
                            return client.head_object(**where)["Metadata"].get("writer") == writer
                        return False
                    if status != 409 or attempt == CONFLICTS:
                        raise
        raise AssertionError

    def get(self, key: str) -> bytes | None:
        """The newest version."""
        from botocore.exceptions import ClientError

        with self._asked(key) as client:
            try:
                return client.get_object(Bucket=self.name, Key=self._key(key))["Body"].read()
            except ClientError as error:
                if error.response["Error"]["Code"] == "NoSuchKey":
                    return None
                raise

    def list(self, prefix: str) -> list[str]:
        """Objects, and what stands before a slash."""
        above = self._key(f"{prefix}/" if prefix else "")
        found: set[str] = set()
        with self._asked(prefix) as client:
            pages = client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=above, Delimiter="/")
            for page in pages:
                found |= {entry["Key"][len(above) :] for entry in page.get("Contents", ())}
                found |= {entry["Prefix"][len(above) : -1] for entry in page.get("CommonPrefixes", ())}
        return sorted(name for name in found if name and not name.startswith("."))

    def delete(self, prefix: str) -> None:
        """The object, and all below."""
        with self._asked(prefix) as client:
            client.delete_object(Bucket=self.name, Key=self._key(prefix))
            pages = client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=self._key(f"{prefix}/"))
            for page in pages:
                for entry in page.get("Contents", ()):
                    client.delete_object(Bucket=self.name, Key=entry["Key"])


def _environment() -> str | None:
    """The server that the environment names."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or None


@lru_cache(maxsize=8)
def _client(endpoint: str | None, region: str | None) -> Any:
    """A client, shared by the threads of a process."""
    import boto3
    from botocore.config import Config

    config = Config(
        connect_timeout=10,
        read_timeout=60,
        max_pool_connections=READERS,
        retries={"mode": "standard", "max_attempts": 6},
        s3={"addressing_style": "path" if endpoint else "auto"},
        request_checksum_calculation="when_required",  # others than AWS do not know the newer sums; ours are SHA-256
        response_checksum_validation="when_required",
    )
    return boto3.session.Session(region_name=region).client("s3", endpoint_url=endpoint, config=config)


_TRUSTED: set[Bucket] = set()
"""Whose servers have refused to create what was there."""
