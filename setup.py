"""Metadata, entry points and dependencies; each dependency has its reason beside it.

The ranges here are for those who install the package. `make` installs the releases of requirements/, one per
dependency and with its hashes; after a change here, `make constraints` brings them up to date.
"""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent

INSTALL = [
    "pyramid>=2.1,<3",  # the web framework: routes, tweens, renderers, views
    # Pyramid 2.1 imports pkg_resources, which setuptools 81 dropped; before 78.1.1 it writes outside its folder when it
    # downloads (CVE-2025-47273).
    "setuptools>=78.1.1,<81",
    "WebOb>=1.8.9,<2",  # Pyramid's requests and responses; contract/ and runtime/ name its classes
    "plaster-pastedeploy>=1.0",  # reads the ini files
    "aiopyramid==0.4.1",  # coroutine views under Pyramid; runtime/ mends exactly this release
    "greenlet>=3.1",  # runtime/ runs each request in one; context variables need its gr_context
    "pyramid_swagger>=2.9,<3",  # decides which operation a request is, and what it may hold
    "bravado-core>=6.4,<7",  # reads the contract for pyramid_swagger; listing every violation uses it
    "jsonschema>=4.18,<5",  # the validator of bravado-core, whose errors contract/ translates
    "swagger-spec-validator>=3.0",  # refuses a broken contract at start-up
    "PyYAML>=6",  # the contract's files
    "jsonschema-rs>=0.60,<1",  # compiled response checks, 200 times faster than bravado-core's
    "orjson>=3.10",  # JSON in and out
    "brotli>=1.1",  # answers in the coding br, by the format's own authors
    "backports.zstd>=1.0; python_version < '3.14'",  # answers in zstd: Python 3.14's own module, for 3.11 to 3.13
    # The server. runtime/server/ and serving/ build on names of its arbiter and workers that a minor release may
    # change: their relied_on.py list them.
    "gunicorn>=27.0,<27.1",
    # llhttp, the HTTP/1 parser of Node.js: runtime/server/http1/ reads heads and chunks with it, comparison/ messages
    "httptools>=0.7,<1",
    "uvloop>=0.21; sys_platform != 'win32'",  # the worker's event loop
    # The client of the upstreams, and the services' web framework. upstream/transport/ and services/http/ build on
    # private names of its connector, protocols and server, which a minor release may change: their relied_on.py list
    # them.
    "aiohttp>=3.14,<3.15",
    "multidict>=6.1",  # the headers of an answer, as aiohttp's parser gives them
    "yarl>=1.12",  # the addresses that aiohttp's connector and requests take
    "cachetools>=5.5",  # the bounded caches: of identities, and of what the services answer
    "requests>=2.32",  # the blocking client of legacy/
    "urllib3>=2,<3",  # its time limits as errors, and its connection pools
    "SQLAlchemy[asyncio]>=2.1,<3",  # the services' databases
    "aiosqlite>=0.22.1",  # SQLite, the embedded default
    "asyncpg>=0.30",  # PostgreSQL, by URL
    "alembic>=1.16",  # the services' migrations, applied at start
    "crawler-user-agents>=1.67",  # a list of bots' user agents, MIT, 100 kB; its releases follow the bots
    "tzdata>=2025.2",  # the time zones of schedules; slim systems have none
    "scipy>=1.14",  # false discovery control and distributions for the statistics
    "numpy>=2",  # scipy's arrays, used by name
    "click>=8.1",  # the optimizely-api command
    "rich>=13",  # progress and tables in the terminal
    "honcho>=2",  # runs the Procfile for `make run`
    "swagger-ui-bundle-v2>=5.31",  # Swagger UI as files, so that the docs ask no other host
    "markdown-it-py>=3",  # the docs page of errors, from docs/errors.md; rich brings it already
]
COMPARE = [
    "Mako>=1.3",  # the page of the report and its charts; alembic brings it already
    "psutil>=6",  # memory and processes of each mode
]
GEVENT = [
    "gevent>=25.4"
]  # gunicorn's gevent worker, a mode of the comparison that is measured when it is named
TEST = [
    *COMPARE,
    *GEVENT,
    "webtest>=3",  # calls the application as a client would
    "pytest>=9",
    "packaging>=24",  # compares requirements/ with the ranges above
    "pytest-asyncio>=1.2",  # coroutine tests
    "pytest-xdist>=3.6,<4",  # several files of tests at once, which halves CI
    "hypothesis>=6.130",  # property tests: validators, statistics, aggregation
    "schemathesis>=4.32,<5",  # attacks the running gateway from its own contract
    "playwright>=1.50",  # drives the docs page in Chromium
    "uvicorn>=0.35",  # another ASGI server, for the bridge
    "uv>=0.9",  # writes requirements/: all platforms and Pythons in one run of seconds
    "ruff>=0.14",
    "import-linter>=2.17,<3",  # holds the rooms of the package to the direction of their imports
    "mypy>=1.18",
    "types-PyYAML",
    "types-requests",
    "types-psutil",
    "types-cachetools",
]

setup(
    name="optimizely_api",
    version="0.1.0",
    description="The Optimizely v2 REST API as an asyncio gateway in front of three services",
    long_description=(HERE / "README.md").read_text(encoding="utf-8")
    if (HERE / "README.md").exists()
    else "",
    long_description_content_type="text/markdown",
    license="MIT",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    packages=[
        *find_packages(include=["optimizely_api", "optimizely_api.*"]),
        "optimizely_api.docs",
        "optimizely_api.swagger",
    ],
    package_dir={"optimizely_api.docs": "docs", "optimizely_api.swagger": "swagger"},
    package_data={
        "optimizely_api.docs": ["errors.md"],
        "optimizely_api.swagger": ["*.yaml"],
        "optimizely_api": [
            "py.typed",
            "contract/*.json",
            "**/*.css",
            "**/*.html",
            "**/*.js",
            "**/*.mako",
            "**/*.sql",
        ],
    },
    install_requires=INSTALL,
    extras_require={"compare": COMPARE, "gevent": GEVENT, "test": TEST},
    entry_points={
        "paste.app_factory": ["main = optimizely_api:main", "legacy = optimizely_api.legacy:main"],
        "console_scripts": ["optimizely-api = optimizely_api.cli:main"],
    },
)
