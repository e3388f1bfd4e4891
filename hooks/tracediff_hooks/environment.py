"""What a run ran on: versions, machine, seeds and variables that can change its numbers."""

import hashlib
import os
import platform
import random
import sys
from typing import Any, Dict

import numpy as np

from tracediff_hooks._version import __version__

PACKAGES = (
    "tensorflow",
    "keras",
    "tf_keras",
    "jax",
    "jaxlib",
    "torch",
    "numpy",
    "zarr",
    "numcodecs",
    "h5py",
)
VARIABLE_PREFIXES = (
    # Not all of TF_*: other tools keep secrets there.
    "TF_CUDNN_",
    "TF_DETERMINISTIC_",
    "TF_DISABLE_",
    "TF_ENABLE_",
    "TF_FORCE_",
    "TF_GPU_",
    "TF_NUM_",
    "TF_USE_",
    "TF_XLA_",
    "KERAS_BACKEND",
    "XLA_FLAGS",
    "CUDA_VISIBLE_DEVICES",
    "CUBLAS_",
    "NVIDIA_TF32",
    "OMP_",
    "MKL_",
    "OPENBLAS_",
    "JAX_",
    "TORCH_",
    "PYTHONHASHSEED",
)


def versions() -> Dict[str, str]:
    """Versions of Python, of this package, and of every package that computes and is loaded."""
    found = {"python": platform.python_version(), "tracediff_hooks": __version__}
    for name in PACKAGES:
        version = getattr(sys.modules.get(name), "__version__", None)
        if isinstance(version, str):
            found[name] = version
    return found


def surroundings() -> Dict[str, Any]:
    """The machine, the command line, environment variables, and the state of random streams.

    Of the streams, those of Python and of numpy.
    """
    return {
        "platform": platform.platform(),
        "machine": platform.machine(),
        "processors": os.cpu_count(),
        "command": list(sys.argv),
        "variables": {
            name: value
            for name, value in sorted(os.environ.items())
            if name.startswith(VARIABLE_PREFIXES)
        },
        "seeds": {
            # The seed itself cannot be asked for; equal streams have equal fingerprints.
            "python_random_state": _fingerprint(random.getstate()),
            "numpy_random_state": _fingerprint(_numpy_state()),
        },
    }


def _numpy_state() -> Any:
    state = np.random.get_state()  # noqa: NPY002 - the stream that scripts share without asking
    return tuple(part.tolist() if isinstance(part, np.ndarray) else part for part in state)


def _fingerprint(state: Any) -> str:
    digest = hashlib.sha1(repr(state).encode())  # noqa: S324 - a fingerprint, no security
    return digest.hexdigest()[:16]
