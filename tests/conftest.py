"""What holds for all tests: two run side by side on two cores, where threads of OpenBLAS only spin for one another."""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # read when NumPy is first imported, which is later
