"""The files that the page loads."""

from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles
from starlette.types import Scope


class Assets(StaticFiles):
    """Files at exactly their addresses: one with a slash too many is answered 404, as elsewhere."""

    def get_path(self, scope: Scope) -> str:
        path = str(scope["path"])
        if "//" in path or path.endswith("/"):
            raise HTTPException(404)
        return super().get_path(scope)
