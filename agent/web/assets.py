"""The page's files: our own, and the chart library from its installed package."""

import hashlib
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from aiohttp import web

STATIC = Path(__file__).parent / "static"
PLOTLY = "plotly.min.js"

_TYPES = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
}


async def serve_page(request: web.Request) -> web.StreamResponse:
    """The page itself."""
    return _file(request, STATIC / "index.html")


async def serve_static(request: web.Request) -> web.StreamResponse:
    """A script, a style sheet or the chart library."""
    name = request.match_info["name"]
    path = plotly_script() if name == PLOTLY else STATIC / name
    if path is None or Path(name).name != name or path.suffix not in _TYPES or not path.is_file():
        raise web.HTTPNotFound(text="no such file\n")
    return _file(request, path)


@cache
def plotly_script() -> Path | None:
    """The script that the plotly package ships; found without importing the package."""
    spec = find_spec("plotly")
    for folder in () if spec is None else spec.submodule_search_locations or ():
        script = Path(folder) / "package_data" / PLOTLY
        if script.is_file():
            return script
    return None


def _file(request: web.Request, path: Path) -> web.StreamResponse:
    tag = _tag(path, path.stat().st_mtime_ns)
    headers = {
        "Content-Type": f"{_TYPES[path.suffix]}; charset=utf-8",
        "ETag": tag,
        "Cache-Control": "no-cache",
    }
    if request.headers.get("If-None-Match") == tag:
        return web.Response(status=304, headers=headers)
    return web.FileResponse(path, headers=headers)


@cache
def _tag(path: Path, changed_ns: int) -> str:
    return f'"{hashlib.sha256(path.read_bytes()).hexdigest()[:16]}"'
