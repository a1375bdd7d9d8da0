"""``make openapi``: write the OpenAPI document of the service as it is delivered.

`docs/openapi.json` is what clients are generated from without a service at hand, and where a review
sees that the interface changes. It is the document of the built-in bundle and of settings that
nobody changed; a service with others says so in its own `/openapi.json`.
"""

import json
import sys
from pathlib import Path
from typing import Any

from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from bundle.built_in import default_bundle_path
from bundle.reader import read_bundle
from service.http.app import create_app
from service.settings import Settings

PATH = Path(__file__).parents[1] / "docs" / "openapi.json"


class _Untouched(Settings):
    """The defaults, whatever the environment says."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)


def document() -> dict[str, Any]:
    """The document, without the release's number, which says nothing of the interface."""
    made = create_app(read_bundle(default_bundle_path()), _Untouched()).openapi()
    return {**made, "info": {**made["info"], "version": "1"}}


def as_text(made: dict[str, Any]) -> str:
    """As it stands in the file: sorted, so that a difference is a change."""
    return json.dumps(made, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def main() -> int:
    PATH.write_text(as_text(document()), encoding="utf-8")
    print(f"wrote {PATH}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
