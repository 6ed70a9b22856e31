"""What is installed with the exchange: every package under a licence that its users can accept, none that nobody looked at."""

import re
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

ALLOWED = {"MIT", "MIT-0", "ISC", "BSD-2-Clause", "BSD-3-Clause", "Apache-2.0", "PSF-2.0"}
"""Permissive: they ask for their notice, and nothing of whoever runs or sells an exchange."""
ALLOWED_FOR_TOOLS = ALLOWED | {"MPL-2.0"}
"""Of what only builds, tests and checks: it is not passed on."""
LOOKED_AT = {"certifi": {"MPL-2.0"}}
"""Mozilla's list of authorities, as it is. Its licence asks for the source of changes to that file, of whoever makes any."""
NAMES = {
    "MIT License": "MIT",
    "ISC License (ISCL)": "ISC",
    "Apache Software License": "Apache-2.0",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
}
"""Classifiers of packages that state no SPDX expression."""
MIT_TEXT = "Permission is hereby granted, free of charge, to any person obtaining a copy"


def locked(name: str) -> list[str]:
    """The packages of a lock that belong on this system."""
    text = (ROOT / name).read_text(encoding="utf-8")
    return re.findall(r"^([a-z0-9-]+)==\S+ (?!; sys_platform == 'win32')", text, re.MULTILINE)


def licences(package: Distribution) -> set[str]:
    """SPDX names, any one of which may be chosen; empty when the package does not say."""
    if "License-Expression" in package.metadata:
        return set(package.metadata["License-Expression"].split(" OR "))
    classifiers = package.metadata.get_all("Classifier") or []
    if "License" in package.metadata and package.metadata["License"] in ALLOWED:
        return {package.metadata["License"]}
    named = {NAMES.get(line.rpartition(" :: ")[2]) for line in classifiers if line.startswith("License ::")} - {None}
    if named:
        return {name for name in named if name}
    for file in package.files or []:
        if re.match(r"LICEN[SC]E", file.name) and MIT_TEXT in " ".join(file.read_text(encoding="utf-8").split()):
            return {"MIT"}
    return set()


@pytest.mark.parametrize("name", locked("requirements.txt"))
def test_what_runs_may_be_used_by_everybody(name: str) -> None:
    found = licences(distribution(name))
    assert found & (ALLOWED | LOOKED_AT.get(name, set())), (
        f"{name} is under {found or 'no licence that it states'}: look at it, and at whether it is needed"
    )


@pytest.mark.parametrize("name", sorted({*locked("requirements-dev.txt")} - {*locked("requirements.txt")}))
def test_what_builds_and_tests_too(name: str) -> None:
    found = licences(distribution(name))
    assert found & ALLOWED_FOR_TOOLS, f"{name} is under {found or 'no licence that it states'}"


def test_what_is_installed_is_what_is_locked() -> None:
    for name, version in re.findall(r"^([a-z0-9-]+)==(\S+) (?!; sys)", (ROOT / "requirements.txt").read_text(), re.MULTILINE):
        assert distribution(name).version == version, name
