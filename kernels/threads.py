# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
"""One thread for NumPy's products while small cases are graded.

    with ONE_THREAD:
        problem.reference(variant, inputs)

The products are small, the cores are busy with submissions, and threads of OpenBLAS that wait for one another spin: on
two busy cores, grading TriMul's small cases took 40 times as long with two threads as with one.
"""

import threading

from threadpoolctl import threadpool_limits


class OneThread:
    """A limit on BLAS that holds for the whole process, while at least one block is active in any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._active = 0
        self._limit: threadpool_limits | None = None

    def __enter__(self) -> None:
        with self._lock:
            self._active += 1
            if self._limit is None:
                self._limit = threadpool_limits(1, user_api="blas")

    def __exit__(self, *args: object) -> None:
        with self._lock:
            self._active -= 1
            if not self._active and self._limit is not None:
                self._limit.restore_original_limits()
                self._limit = None


ONE_THREAD = OneThread()
