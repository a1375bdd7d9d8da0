"""The GPU's benchmark: its parts run on a CPU, as a command it wants a GPU."""

import onnxruntime as ort
import pytest
import torch
from click.testing import CliRunner

from benchmarks import gpu
from bundle.built_in import default_bundle_path
from bundle.reader import Bundle, read_bundle
from service.decoding.worker import WARM_UP_CLIP
from service.engine import Engine, EngineOptions
from video.nvdec import DeviceUnusable

OPTIONS = EngineOptions(
    intra_op_threads=1, batching="always", warm_up_seconds=0, calibration_seconds=0
)


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return read_bundle(default_bundle_path())


@pytest.mark.slow
def test_parity_and_throughput(bundle: Bundle) -> None:
    engine = Engine(bundle, OPTIONS)
    (row,) = gpu.parity(bundle.manifest, engine, engine, gpu.smooth_clips(bundle, 2), [0.9])
    assert row["logits"] == row["scores"] == 0
    assert row["same_label"] == row["same_selection"] == 1
    rows = gpu.throughput(engine, bundle, [1, 2], [0.95], runs=3)
    assert [(row["batch"], len(row["samples_seconds"])) for row in rows] == [(2, 3), (1, 3)]
    assert all(row["clips_per_second"] > 0 for row in rows)
    engine.close()


@pytest.mark.slow
def test_rates(bundle: Bundle) -> None:
    assert gpu.matrix_rate(OPTIONS, size=64, products=2, runs=3) > 1e6
    rows = gpu.mixed_load(bundle, OPTIONS, callers=3, seconds=0.5)
    assert [row["sparsities"] for row in rows][-1] == (0.7, 0.9, 0.95)
    assert all(row["clips_per_second"] > 0 and row["rows_per_run"] >= 1 for row in rows)
    assert all(row["padding_ratio"] == 0 for row in rows[:-1])
    assert 0 <= rows[-1]["padding_ratio"] <= OPTIONS.max_padding_ratio


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_clip_is_not_said_to_be_decoded_where_it_is_not(bundle: Bundle) -> None:
    with pytest.raises(DeviceUnusable, match=r"torchcodec .* cuda:0"):
        gpu.decoding(WARM_UP_CLIP.read_bytes(), bundle, "cuda:0", runs=1)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_decodes_what_a_cpu_decodes(bundle: Bundle) -> None:
    found = gpu.decoding(WARM_UP_CLIP.read_bytes(), bundle, "cuda:0", runs=1)
    assert found["mean_difference"] < 2
    assert found["largest_difference"] < 32


@pytest.mark.skipif(
    "CUDAExecutionProvider" in ort.get_available_providers(), reason="there is a GPU"
)
def test_without_a_gpu_it_says_so() -> None:
    result = CliRunner().invoke(gpu.main, [])
    assert result.exit_code == 1
    assert "no CUDA" in result.output
    assert "Traceback" not in result.output
