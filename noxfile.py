"""What is run before a change lands: ``nox`` runs lint, typing, tests and examples."""

import pathlib
import secrets
import shutil

import nox

nox.options.default_venv_backend = "venv"
nox.options.error_on_missing_interpreters = False
nox.options.sessions = ["lint", "typing", "tests", "examples"]

PYTHONS = ["3.11", "3.12", "3.13"]


@nox.session
def lint(session: nox.Session) -> None:
    """Format, rules, and the floors of the architecture."""
    session.install("-e", ".[all]", "ruff>=0.6", "import-linter>=2.0")
    session.run("ruff", "format", "--check", ".")
    session.run("ruff", "check", ".")
    session.run("lint-imports")


@nox.session
def typing(session: nox.Session) -> None:
    """Strict types, by two checkers."""
    session.install("-e", ".[all]", "mypy>=1.11", "pyright>=1.1.380", "types-PyYAML")
    session.run("mypy")
    session.run("pyright")


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """All tests; those that read third-party data skip where it is absent."""
    session.install("-e", ".[test]")
    session.run("pytest", *session.posargs)


@nox.session
def differential(session: nox.Session) -> None:
    """Decide 20,000 random requests by meshlib and by a real Envoy; a positional argument is the seed."""
    session.install("-e", ".[test]")
    seed = session.posargs[0] if session.posargs else str(secrets.randbelow(1_000_000))
    session.log(f"seed {seed}")
    environment = {"MESHLIB_DIFFERENTIAL_SEED": seed, "MESHLIB_DIFFERENTIAL_PAIRS": "20000"}
    session.run("pytest", "tests/differential", env=environment)


@nox.session
def examples(session: nox.Session) -> None:
    """Every example runs and proves what it says."""
    session.install("-e", ".[all]", "redis>=5.0")
    for path in sorted(pathlib.Path("examples").glob("[!_]*.py")):
        session.run("python", str(path))
    session.run("meshlib", "demo", "--seconds", "6", "--no-tty")


@nox.session
def bench(session: nox.Session) -> None:
    """Print the numbers that the documentation quotes."""
    session.install("-e", ".[all,bench]")
    for name in ("core", "budget", "scale", "throughput", "http2", "chaos", "soak"):
        session.run("python", f"benchmarks/{name}.py")


@nox.session(python=["3.11", "3.12"])
def fuzz(session: nox.Session) -> None:
    """Fuzz everything that reads what users write; ``-- SECONDS TARGET...``, see fuzz/README.md."""
    session.install("-e", ".[test]", "atheris>=3.0")
    session.run("python", "-m", "fuzz.run", *(session.posargs or ["60"]))


@nox.session
def downstream(session: nox.Session) -> None:
    """Run httpx's own tests, of its source distribution, over the mesh, and compare with httpx alone."""
    session.install("-e", ".[test]", "chardet>=5.2", "httpx[cli,socks]", "uvicorn>=0.30")
    folder = session.create_tmp()
    version = session.run("python", "-c", "import httpx; print(httpx.__version__)", silent=True).strip()
    source = ["--no-deps", "--no-binary", "httpx", f"httpx=={version}"]
    session.run("python", "-m", "pip", "download", "-q", "--dest", folder, *source)
    session.run("python", "downstream/run.py", folder, *session.posargs)


@nox.session
def clean(session: nox.Session) -> None:
    """Remove what the other sessions left."""
    for name in (".nox", ".mypy_cache", ".ruff_cache", ".pytest_cache"):
        shutil.rmtree(name, ignore_errors=True)
