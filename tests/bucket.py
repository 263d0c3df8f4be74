"""A bucket of S3 on this machine: moto's server, in a thread of the tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import boto3
import pytest
from moto.server import ThreadedMotoServer

KEYS = {
    "AWS_ACCESS_KEY_ID": "a-key",
    "AWS_SECRET_ACCESS_KEY": "a-secret",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": "/dev/null",
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
}
BUCKET = "plm"


@contextmanager
def served() -> Iterator[str]:
    """A server with an empty bucket; its address. Credentials are in the environment meanwhile."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in KEYS.items():
            patch.setenv(name, value)
        patch.delenv("AWS_PROFILE", raising=False)
        server.start()
        host, port = server.get_host_and_port()
        address = f"http://{host}:{port}"
        try:
            boto3.client("s3", endpoint_url=address).create_bucket(Bucket=BUCKET)
            yield address
        finally:
            server.stop()
