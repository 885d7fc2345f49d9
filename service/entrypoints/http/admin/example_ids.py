"""What the examples in the description are about: the choir, its register, and Ada, all invented."""

from __future__ import annotations

from typing import Final

__all__ = [
    "ADDED_AT",
    "CHOIR",
    "CORRELATION",
    "DRIFT_RUN",
    "ENDS_AT",
    "FINDING",
    "HER",
    "JOB",
    "KEY",
    "LISTS",
    "NOW",
    "REGISTER",
    "SCAN",
    "SCHEDULE",
    "STARTS_AT",
    "SYNC_RUN",
]

CHOIR: Final = "5f0d0f4e-3f43-4c8b-9d7a-0c2f6a1be001"
REGISTER: Final = "8a4c2b1d-7e55-4f0e-a2f3-5d9c6b7ae002"
HER: Final = "019b2f6c-2f0e-7cc1-9a0d-5c1b0f8a7e03"
JOB: Final = "019b2f6d-10aa-7f3c-8b41-2e6d9c0fa104"
SYNC_RUN: Final = "c1f7a9e2-64d0-4b3a-8e15-7a2b9d3ce005"
SCAN: Final = "2d9e5b70-1c84-4a6f-b0d3-9f8e7c6ba006"
FINDING: Final = "019b2f6d-7b3e-7d19-a4c2-6f0e1d2ca307"
SCHEDULE: Final = "b3c8d1f6-0a5e-4e92-9c47-1d6f2a8be008"
DRIFT_RUN: Final = "e6a2f4c9-8b17-4d05-a3ec-5b0d7f91e009"
LISTS: Final = "019b2f6d-9c55-7a20-8d6b-3a1f0e5db40a"
KEY: Final = "019b2f6c-1a2b-74d3-b5c6-7d8e9f0a1b0b"
CORRELATION: Final = "019b2f6d-0e91-7b64-9f2a-8c7d6e5fa40c"

ADDED_AT: Final = "2026-11-02T09:30:00.250000Z"
NOW: Final = "2026-12-01T12:00:00.125000Z"
STARTS_AT: Final = "2026-01-01T00:00:00Z"
ENDS_AT: Final = "2027-01-01T00:00:00Z"
