import pytest

from petseg.devices import name_gpus


@pytest.mark.parametrize(
    ("names", "used", "expected"),
    [
        (["NVIDIA H100"] * 8, 8, "8 x NVIDIA H100"),
        (["NVIDIA A10"], 1, "1 x NVIDIA A10"),
        (["NVIDIA H100"] * 8, 1, "1 x NVIDIA H100 (of 8 GPUs)"),
        (["NVIDIA A10", "NVIDIA H100"], 2, "1 x NVIDIA A10, 1 x NVIDIA H100"),
    ],
)
def test_gpus_are_counted_by_name(names, used, expected):
    assert name_gpus(names, used) == expected


def test_without_a_gpu_the_cure_is_named():
    assert name_gpus([], 1).startswith("CPU only: TensorFlow finds no GPU")
    assert "pip install 'tensorflow[and-cuda]'" in name_gpus([], 2)
