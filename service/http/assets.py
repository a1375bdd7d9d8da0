"""The files that the page loads."""

from pathlib import Path
from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.staticfiles import PathLike, StaticFiles
from starlette.types import Scope

# As RFC 9239 has it; the tables of Python and of systems differ.
_TYPES = {".css": "text/css", ".js": "text/javascript"}


class Assets(StaticFiles):
    """Files at exactly their addresses: one with a slash too many is answered 404, as elsewhere."""

    def get_path(self, scope: Scope) -> str:
        path = str(scope["path"])
        if "//" in path or path.endswith("/"):
            raise HTTPException(404)
        return super().get_path(scope)

    def file_response(self, full_path: PathLike, *rest: Any, **more: Any) -> Response:
        response = super().file_response(full_path, *rest, **more)
        if known := _TYPES.get(Path(full_path).suffix):
            response.headers["content-type"] = f"{known}; charset=utf-8"
        return response
