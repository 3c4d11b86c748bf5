import pytest
import tensorflow as tf

from petseg import device_memory
from petseg.errors import FaultFound


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (
            tf.errors.ResourceExhaustedError,
            "OOM when allocating tensor with shape[4096,64,224,224]\n on /device:GPU:0",
        ),
        (tf.errors.ResourceExhaustedError, "Out of memory while trying to allocate 49 bytes."),
        (tf.errors.InternalError, "Failed copying input tensor: Dst tensor is not initialized."),
        (tf.errors.UnknownError, "CUDNN_STATUS_ALLOC_FAILED"),
    ],
)
def test_exhausted_memory_is_one_line_with_the_remedy(kind, message):
    with (
        pytest.raises(FaultFound, match="does not suffice; take less") as raised,
        device_memory.exhaustion_in_one_line("take less"),
    ):
        raise kind(None, None, message)
    assert message.split()[0] in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_full_disk_is_another_fault():
    with (
        pytest.raises(tf.errors.ResourceExhaustedError, match="No space left"),
        device_memory.exhaustion_in_one_line("take less"),
    ):
        raise tf.errors.ResourceExhaustedError(None, None, "a.index; No space left on device")
