"""The messages and stubs of ``testing.proto``, generated when they are imported."""

from __future__ import annotations

from typing import Any

import grpc

messages: Any
services: Any
messages, services = grpc.protos_and_services("tests/grpc/testing.proto")
