"""References to secrets: which lead to a value, and that no text shows one."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.settings import SecretUnavailable, is_reference, resolve_secret


def test_a_variable_of_the_right_prefix_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROLLCALL_SECRET_HOOKS", "hush")
    found = resolve_secret("env:ROLLCALL_SECRET_HOOKS", None)
    assert found.get_secret_value() == "hush"
    assert "hush" not in repr(found)


NO_REFERENCES = ["env:DATABASE_URL", "env:PATH", "env:ROLLCALL_SECRET_", "env:", "vault:x", "", "file:", "file:/etc/passwd"]


@pytest.mark.parametrize("reference", NO_REFERENCES)
def test_anything_else_is_no_reference(reference: str, tmp_path: Path) -> None:
    assert not is_reference(reference)
    with pytest.raises(SecretUnavailable, match="is no reference"):
        resolve_secret(reference, tmp_path)


@pytest.mark.parametrize("value", [None, "", "  \n"])
def test_a_blank_variable_counts_as_unset(value: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ROLLCALL_SECRET_HOOKS", raising=False)
    if value is not None:
        monkeypatch.setenv("ROLLCALL_SECRET_HOOKS", value)
    with pytest.raises(SecretUnavailable, match="env:ROLLCALL_SECRET_HOOKS is not set"):
        resolve_secret("env:ROLLCALL_SECRET_HOOKS", None)


def test_a_file_below_the_folder_is_read_without_its_line_break_and_through_links_that_stay_in_it(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "hooks").write_text("hush\n")
    (tmp_path / "hooks").symlink_to(tmp_path / "data" / "hooks")
    for reference in ("file:hooks", "file:data/hooks", "file:data/../hooks"):
        assert resolve_secret(reference, tmp_path).get_secret_value() == "hush"


def test_nothing_outside_the_folder_is_read(tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("hush")
    folder = tmp_path / "secrets"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path / "outside")
    (folder / "folder").mkdir()
    (folder / "binary").write_bytes(b"\xff")
    (folder / "large").write_bytes(b"x" * 70_000)
    (folder / "blank").write_text("\n")
    for name in ("../outside", "link", "folder", "missing", "binary", "large", "blank", "a\x00b"):
        with pytest.raises(SecretUnavailable) as refused:
            resolve_secret(f"file:{name}", folder)
        assert "hush" not in str(refused.value)


def test_a_file_needs_the_folder() -> None:
    with pytest.raises(SecretUnavailable, match="needs SECRETS_DIR"):
        resolve_secret("file:hooks", None)
