"""TriMul's schedules: how the three stages are fused, stored, laid out and tiled."""

from ..schedule import ScheduleSpace

SPACE = ScheduleSpace.of(
    ("fusion", "both back front none", "which LayerNorms run inside the kernel of the product that follows"),
    (
        "precision",
        "half tf32 strict",
        "half precision; fp32 with TF32 products; fp32 with TF32 products in three parts",
    ),
    ("layout", "channel_first channel_last", "order of the tensors that the triangle product reads and writes"),
    ("front_rows", "32 64 128", "rows of a tile of the input projections"),
    ("front_split", "joint pairs", "whether one program computes all five projections, or one side's pair"),
    ("tile", "128x256 128x128 128x64 64x64", "tile of the triangle product"),
    ("warps", "8 4", "warps of a program of the triangle product"),
    ("stages", "3 5", "steps of the triangle product that are loaded ahead"),
    ("group", "16 4 1", "rows of tiles that are walked together, for reuse in L2"),
    ("back_rows", "32 64 128", "rows of a tile of the output projection"),
)
