"""Builds the images of deploy/Dockerfile: the commands that it names, run in containers without an engine."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from pathlib import Path

from tests.deploy.container import Mount, Spec, run_in
from tests.deploy.dockerfile import ROOT, Instruction, read_stages

__all__ = ["Image", "ImageBuilder"]

# How this machine reaches package registries is no part of the Dockerfile.
_PASSED_ON = ("PIP_", "NPM_", "npm_", "HTTP", "http", "NO_PROXY", "no_proxy", "SSL_", "NODE_", "REQUESTS_")
# The official image has no tests of the library either.
_NOT_COPIED = ("config-*", "lib*.a", "site-packages", "test", "tests", "idle_test", "__pycache__")


@dataclass
class Image:
    """What a stage made: layers above this machine's root, the lowest first, and how it is started."""

    layers: list[Path] = field(default_factory=list)
    environ: dict[str, str] = field(default_factory=dict)
    workdir: str = "/"
    user: str = "0:0"
    entrypoint: list[str] = field(default_factory=list)
    cmd: list[str] = field(default_factory=list)
    healthcheck: list[str] = field(default_factory=list)

    def spec(self, folder: Path, environ: Mapping[str, str], *mounts: Mount) -> Spec:
        """Return a container as it is meant to run: nothing can be written but /tmp."""
        return Spec(
            folder=folder,
            layers=self.layers,
            environ={**self.environ, **environ},
            workdir=self.workdir,
            user=self.user,
            mounts=[Mount("tmpfs", "/tmp"), *mounts],
            read_only=True,
        )


class ImageBuilder:
    """Builds stages, each once, in ``folder``, which must not lie in what is built from."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._stages = read_stages()
        self._images: dict[str, Image] = {}
        self._context = folder / "context"
        _copy_context(self._context)

    def build(self, name: str) -> Image:
        """Return the image of a stage, or of a name that is none of ours: a Python of this machine stands in for it."""
        if name not in self._images:
            stage = self._stages.get(name)
            self._images[name] = self._python() if stage is None else self._stage(name, stage.base)
        return self._images[name]

    def _stage(self, name: str, base: str) -> Image:
        below = self.build(base)
        image = replace(below, layers=list(below.layers), environ=dict(below.environ))
        for number, instruction in enumerate(self._stages[name].instructions):
            self._apply(image, instruction, self.folder / f"{name}-{number}")
        return image

    def _apply(self, image: Image, instruction: Instruction, folder: Path) -> None:
        match instruction.keyword:
            case "RUN":
                self._run(image, instruction, folder)
            case "COPY":
                self._copy(image, instruction, folder)
            case "ENV":
                values = dict(word.split("=", 1) for word in instruction.words)
                image.environ |= {name: value.replace("$PATH", _path(image)) for name, value in values.items()}
            case "WORKDIR":
                image.workdir = instruction.rest
                self._execute(image, folder, ["mkdir", "-p", image.workdir], workdir="/")
            case "USER":
                image.user = instruction.rest
            case "ENTRYPOINT" | "CMD" | "HEALTHCHECK":
                setattr(image, instruction.keyword.lower(), instruction.words)
            case "ARG" | "EXPOSE" | "LABEL" | "STOPSIGNAL":
                pass
            case other:
                raise AssertionError(f"nobody has taught these tests {other}")

    def _run(self, image: Image, instruction: Instruction, folder: Path) -> None:
        mounts = []
        for name, value in instruction.flags:
            options = dict(part.split("=") for part in value.split(","))
            assert name == "mount" and options["type"] == "cache"
            kept = Path.home() / ".cache" / Path(options["target"]).name
            kept.mkdir(parents=True, exist_ok=True)
            mounts.append(Mount(str(kept), options["target"], read_only=False))
        if "apt-get" in instruction.rest:
            return  # the machine's root below has what Debian packages bring, or a test that needs it is skipped
        self._execute(image, folder, ["sh", "-c", instruction.rest], *mounts)

    def _copy(self, image: Image, instruction: Instruction, folder: Path) -> None:
        *sources, target = instruction.words
        target = str(Path(image.workdir) / target) + ("/" if target.endswith("/") else "")
        source = self._context
        if name := instruction.flag("from"):
            source = self._merged(self.build(name), sources)
        lines = [f"mkdir -p {target if len(sources) > 1 or target.endswith('/') else Path(target).parent}"]
        for path in sources:
            there = source / path.lstrip("/")
            word = f"/context/{path.lstrip('/')}"
            lines.append(f"mkdir -p {target}; cp -a {word}/. {target}" if there.is_dir() else f"cp -a {word} {target}")
        self._execute(image, folder, ["sh", "-ec", "\n".join(lines)], Mount(str(source), "/context"), workdir="/")

    def _merged(self, image: Image, paths: list[str]) -> Path:
        """Return a folder with what the layers of an image have at some paths."""
        merged = self.folder / "merged" / image.layers[-1].parent.name
        for path in paths:
            for layer in image.layers:
                if (layer / path.lstrip("/")).exists():
                    (merged / path.lstrip("/")).mkdir(parents=True, exist_ok=True)
                    subprocess.run(["cp", "-a", f"{layer}{path}/.", f"{merged}{path}"], check=True)
        return merged

    def _execute(self, image: Image, folder: Path, words: list[str], *mounts: Mount, workdir: str = "") -> None:
        """Run a command as root; what it writes is one more layer of the image."""
        passed = {name: value for name, value in os.environ.items() if name.startswith(_PASSED_ON)}
        spec = Spec(
            folder=folder,
            layers=image.layers,
            environ={"HOME": str(Path.home()), **passed, **image.environ},
            workdir=workdir or image.workdir,
            mounts=[Mount("tmpfs", "/tmp"), *mounts],
        )
        run_in(spec, words, timeout_s=600)
        image.layers.append(spec.written)

    def _python(self) -> Image:
        """Put a Python of this machine where the official image has one: /usr/local, with nothing but pip."""
        prefix = _python_prefix()
        image = Image()
        if prefix != Path("/usr/local"):
            layer = self.folder / "python" / "upper"
            place = layer / "usr" / "local"
            shutil.copytree(prefix / "lib", place / "lib", symlinks=True, ignore=shutil.ignore_patterns(*_NOT_COPIED))
            (place / "bin").mkdir()
            for program in (prefix / "bin").glob("python*"):
                shutil.copy2(program, place / "bin", follow_symlinks=False)
            packages = next(prefix.glob("lib/python3*/site-packages"))
            (place / packages.relative_to(prefix)).mkdir()
            shutil.copytree(packages / "pip", place / packages.relative_to(prefix) / "pip")
            image.layers.append(layer)
        pip = "#!/usr/local/bin/python\nimport sys\nfrom pip._internal.cli.main import main\nsys.exit(main())\n"
        script = f"ldconfig; printf %s {shlex.quote(pip)} >/usr/local/bin/pip; chmod 755 /usr/local/bin/pip"
        self._execute(image, self.folder / "python-linked", ["sh", "-ec", script])
        return image


def _path(image: Image) -> str:
    return image.environ.get("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")


def _python_prefix() -> Path:
    """Return where the Python that stands in lives: the version of the image where there is one, else our own."""
    for name in (os.environ.get("HYPHA_PYTHON", ""), "python3.13", sys.executable):
        if name and shutil.which(name):
            words = [name, "-c", "import pip, sys; print(sys.base_prefix)"]
            done = subprocess.run(words, capture_output=True, text=True, check=False)
            if done.returncode == 0:
                return Path(done.stdout.strip())
    return Path(sys.base_prefix)


def _copy_context(target: Path) -> None:
    """Copy what .dockerignore lets through: it names what is in, then what of that is not."""
    lines = [line for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line and line[0] != "#"]
    assert lines.pop(0) == "*"
    out = [line.removeprefix("**/") for line in lines if line[0] != "!"]

    def ignored(folder: str, names: list[str]) -> set[str]:
        inside = Path(folder).relative_to(ROOT)
        return {name for name in names if any(fnmatch(name, rule) or fnmatch(str(inside / name), rule) for rule in out)}

    target.mkdir(parents=True)
    for line in lines:
        path = ROOT / line[1:]
        if line[0] == "!" and path.is_dir():
            shutil.copytree(path, target / path.name, ignore=ignored)
        elif line[0] == "!":
            shutil.copy2(path, target)
