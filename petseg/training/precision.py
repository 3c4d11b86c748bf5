"""Whether a precision, or XLA, is useful on these devices."""

import platform
from pathlib import Path

import tensorflow as tf

from petseg.errors import UserError

# Tensor cores: float16 since Volta, bfloat16 since Ampere.
_LEAST_CAPABILITY = {"mixed_float16": (7, 0), "mixed_bfloat16": (8, 0)}


def check_fit(precision: str, xla: bool, force: bool) -> None:
    """Refuses what is known to be slower than float32, or wrong, on these devices.

    Args:
      precision: 'float32', 'mixed_bfloat16' or 'mixed_float16'.
      xla: Whether the computation is compiled by XLA.
      force: Accept it nevertheless.

    Raises:
      UserError: Says why, and how to use it nevertheless.
    """
    if not force and (reason := _objection(precision, xla)):
        raise UserError(f"{reason}; --config.devices.force=True uses it nevertheless")


def is_bfloat16_faster() -> bool:
    """Whether these devices multiply bfloat16 faster than float32."""
    return not _objection("mixed_bfloat16", xla=False)


def _objection(precision: str, xla: bool) -> str:
    gpus = tf.config.list_physical_devices("GPU")
    if precision != "float32":
        least = _LEAST_CAPABILITY[precision]
        for gpu in gpus:
            details = tf.config.experimental.get_device_details(gpu)
            found = details.get("compute_capability", least)
            if found < least:
                return (
                    f"config.devices.precision={precision} is slower than float32 on "
                    f"{details.get('device_name', gpu.name)}: its compute capability is "
                    f"{found[0]}.{found[1]}, and {least[0]}.{least[1]} is needed"
                )
        if not gpus and precision == "mixed_float16":
            return "config.devices.precision=mixed_float16 is for GPUs; CPUs emulate it slowly"
        if not gpus and not _cpu_multiplies_bfloat16():
            return (
                "config.devices.precision=mixed_bfloat16 is slower than float32 on a CPU "
                "without AMX"
            )
    if xla and not gpus:
        return "config.devices.xla=True is slower than TensorFlow's own kernels on a CPU"
    return ""


def _cpu_multiplies_bfloat16() -> bool:
    """Whether the CPU has AMX, as Linux reports it."""
    info = Path("/proc/cpuinfo")
    if platform.machine() not in ("x86_64", "AMD64"):
        return False
    return info.exists() and "amx_bf16" in info.read_text()
