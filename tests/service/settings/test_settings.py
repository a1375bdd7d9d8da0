"""Settings: read, limited, documented."""

from pathlib import Path

import pytest

import service
from service.settings import Settings, SettingsError, load_settings, settings_markdown

ROOT = Path(service.__file__).parents[1]


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in list(os.environ):
        if name.startswith("LOOKWHEN_"):
            monkeypatch.delenv(name)


def test_the_documentation_is_what_the_code_says() -> None:
    page = (ROOT / "docs" / "settings.md").read_text()
    assert page == settings_markdown(), "run: python -m service.settings > docs/settings.md"


def test_every_setting_is_documented_and_every_quantity_names_its_unit() -> None:
    page = settings_markdown()
    for name, field in Settings.model_fields.items():
        assert f"`LOOKWHEN_{name.upper()}`" in page
        assert field.description
        assert len(field.description) > 20
        if name.startswith("max_") or name.endswith(("timeout", "grace")):
            units = ("bytes", "pixels", "seconds", "frames", "second", "streams", "views", "fields",
                     "flight", "inferences", "tokens", "ratio",
                     "connections", "labels", "clips")  # fmt: skip
            assert name.endswith(units), f"{name} does not name its unit"


def test_environment_and_overrides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOKWHEN_MAX_VIEWS", "3")
    monkeypatch.setenv("LOOKWHEN_SPARSITY_LEVELS", "0.9, 0, 0.5")
    monkeypatch.setenv("LOOKWHEN_EXECUTION_PROVIDERS", "CUDAExecutionProvider,CPUExecutionProvider")
    monkeypatch.setenv("LOOKWHEN_CONTAINERS", "mpegts, mp4,mp4")
    settings = load_settings({"port": 1234})
    assert settings.max_views == 3
    assert settings.containers == ("mp4", "mpegts")
    assert settings.port == 1234
    assert settings.sparsity_levels == (0.0, 0.5, 0.9)
    assert settings.execution_providers == ("CUDAExecutionProvider", "CPUExecutionProvider")


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("LOOKWHEN_MAX_VIEWS", "0", "greater than or equal to 1"),
        ("LOOKWHEN_PORT", "70000", "65535"),
        ("LOOKWHEN_PORT", "tcp://10.0.0.1:8000", "enableServiceLinks"),
        ("LOOKWHEN_LOG_FORMAT", "xml", "'json'"),
        ("LOOKWHEN_SPARSITY_LEVELS", "0.5,0.9", "must include 0"),
        ("LOOKWHEN_SPARSITY_LEVELS", "0,1.5", "between 0 and 0.99"),
        ("LOOKWHEN_LATENCY_BUCKETS_SECONDS", "1,0.5", "ascending"),
        ("LOOKWHEN_DEGRADE_FROM_LOAD", "0.9", "must be below LOOKWHEN_DEGRADE_FULL_LOAD"),
        ("LOOKWHEN_DECODE_DEVICE", "cuda", "needs LOOKWHEN_DECODE_SANDBOX=off"),
        ("LOOKWHEN_DECODE_DEVICE", "tpu", "'cpu' or 'cuda'"),
        ("LOOKWHEN_DEGRADE_MAX_SPARSITY", "1", "less than or equal to 0.99"),
        ("LOOKWHEN_DECODE_TIMEOUT_SECONDS", "0", "greater than 0"),
        ("LOOKWHEN_CONTAINERS", "mp4,flv", "'flv' is not a known container; known are mp4, mov"),
        ("LOOKWHEN_CONTAINERS", " , ", "names no container; known are mp4, mov, webm"),
        ("LOOKWHEN_MAX_BODY_BYTE", "1", "did you mean LOOKWHEN_MAX_BODY_BYTES?"),
    ],
)
def test_a_bad_setting_is_named_with_its_limit(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, said: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert variable in str(caught.value)
    assert said in str(caught.value)


def test_kubernetes_service_links_are_no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOKWHEN_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("LOOKWHEN_PORT_8000_TCP", "tcp://10.0.0.1:8000")
    assert load_settings().port == 8000
