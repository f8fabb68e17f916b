# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
"""One thread for NumPy's products while small cases are graded.

    with ONE_THREAD:
        problem.reference(variant, inputs)

The products are small, the cores are busy with submissions, and threads of OpenBLAS that wait for one another spin: on
two busy cores, grading TriMul's small cases took 40 times as long with two threads as with one.
"""

import threading
from concurrent.futures import ThreadPoolExecutor

from threadpoolctl import threadpool_limits


class OneThread:
    """A limit on BLAS that holds for the whole process, while at least one block is active in any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._active = 0
        self._limit: threadpool_limits | None = None
        # threadpoolctl heeds one thread alone, the first that sets a limit, and says nothing to the others.
        self._setter = ThreadPoolExecutor(1, "blas-limit")

    def __enter__(self) -> None:
        with self._lock:
            self._active += 1
            if self._limit is None:
                self._limit = self._setter.submit(_limited).result()

    def __exit__(self, *args: object) -> None:
        with self._lock:
            self._active -= 1
            if not self._active and self._limit is not None:
                # Not `restore_original_limits`, which would keep every other thread from setting one afterwards.
                self._setter.submit(_end, self._limit).result()
                self._limit = None


def _end(limit: threadpool_limits) -> None:
    limit.__exit__(None, None, None)


def _limited() -> threadpool_limits:
    return threadpool_limits(1, user_api="blas").__enter__()


ONE_THREAD = OneThread()
