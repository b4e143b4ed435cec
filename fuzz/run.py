"""Fuzz one target, or all one after another.

    python -m fuzz.run [SECONDS] [TARGET ...]

Exits 1 when an input was found that breaks something.
"""

from __future__ import annotations

import pathlib
import subprocess
import sys
import tempfile

from fuzz.seeds import SEEDS

FOUND = pathlib.Path(__file__).parent / "found"


def one(name: str, arguments: list[str]) -> None:
    """In a process of its own: libFuzzer ends it."""
    import atheris

    with atheris.instrument_imports(include=["meshlib"], enable_loader_override=False):
        from fuzz.targets import TARGETS
    atheris.Setup([sys.argv[0], *arguments], TARGETS[name])
    atheris.Fuzz()


def names() -> list[str]:
    from fuzz.targets import TARGETS

    return list(TARGETS)


def main(arguments: list[str]) -> int:
    seconds, chosen = (arguments[0], arguments[1:]) if arguments else ("60", [])
    FOUND.mkdir(exist_ok=True)
    failed = []
    for name in chosen or names():
        prefix = FOUND / f"{name}-"
        options = ["-verbosity=0", f"-max_total_time={seconds}", "-timeout=10", "-rss_limit_mb=2048", "-max_len=4096"]
        with tempfile.TemporaryDirectory() as corpus:
            for number, seed in enumerate(SEEDS.get(name, [])):
                (pathlib.Path(corpus) / str(number)).write_bytes(seed)
            command = [sys.executable, "-m", "fuzz.run", "--one", name, *options, f"-artifact_prefix={prefix}", corpus]
            print(f"== {name}", flush=True)
            if subprocess.run(command).returncode:
                failed.append(name)
    print(f"failed: {', '.join(failed) or 'nothing'}")
    return int(bool(failed))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        one(sys.argv[2], sys.argv[3:])
    else:
        sys.exit(main(sys.argv[1:]))
