from __future__ import annotations

from pathlib import Path

import pytest

from hypha_common.errors import ConfigurationError
from hypha_common.settings import OPTIONS, Settings
from hypha_common.static_mounts import StaticMount, check_folders, static_mounts


def _load(*words: str) -> Settings:
    return Settings.load({"static_mounts": list(words)}, environ={})


def test_good_ones() -> None:
    assert static_mounts(["/tools:./webtools/", "/images/:C:images", "/my-app:/srv/app"]) == (
        StaticMount("tools", Path("webtools")),
        StaticMount("images", Path("C:images")),
        StaticMount("my-app", Path("/srv/app")),
    )


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["/tools:./a", "/tools/:./b"], "must mount one folder only at '/tools/'"),
        (["/a/b:./a"], "must mount at one plain part of a path, such as /tools, not at '/a/b'"),
        (["/:./a"], "must mount at one plain part"),
        (["//x:./a"], "must mount at one plain part"),
        (["/..:./a"], "must mount at one plain part"),
        (["/.git:./a"], "must mount at one plain part"),
        (["/{x}:./a"], "must mount at one plain part"),
        (["/a%2fb:./a"], "must mount at one plain part"),
        (["tools:./a"], "must look like /tools:./webtools/, not 'tools:./a'"),
        (["/tools"], "must look like /tools:./webtools/, not '/tools'"),
        (["/tools:"], "must look like /tools:./webtools/"),
        (["/assets:./a"], "must not mount at '/assets'"),
        (["/ws:./a"], "must not mount at '/ws'"),
        (["/public:./a"], "must not mount at '/public'"),
        (["/ws-user-ada:./a"], "must not mount at '/ws-user-ada'"),
    ],
)
def test_bad_ones(words: list[str], sentence: str) -> None:
    with pytest.raises(ConfigurationError, match="flag --static-mounts: static_mounts") as refused:
        _load(*words)
    assert sentence in str(refused.value)


def test_folders(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    check_folders([f"/tools:{tmp_path}"])
    for folder, reason in ((tmp_path / "none", "No such file or directory"), (tmp_path / "file", "Not a directory")):
        with pytest.raises(ConfigurationError, match=reason):
            check_folders([f"/tools:{folder}"])


@pytest.mark.parametrize("folder", ["./plain", "./two words", "./a,b", "./it's", './"quoted"', "./back\\slash"])
def test_survives_the_environment(folder: str) -> None:
    """The supervisor tells each service its settings in variables; a folder may have any name."""
    settings = _load("/one:./first", f"/two:{folder}")
    again = Settings.load(environ=settings.environment())
    assert again.static_mounts == ("/one:./first", f"/two:{folder}")


def test_words_that_only_look_quoted() -> None:
    """A lone quote is a part of the word: secrets may hold one."""
    row = OPTIONS["static_mounts"]
    assert row.parse("/a:it's /b:c", "test") == ("/a:it's", "/b:c")
