"""TriMul's kernels, as texts that take their design as `constexpr`s, with a field in braces where a schedule fills in.

What a schedule doesn't change in a kernel doesn't appear among its constexprs, so that a few hundred compiled kernels
serve every schedule.

`left`, `right` and `product` have rows padded with zeros to 16 elements: then every address and mask is aligned
whatever `n` is, loads are wide, and one compiled kernel serves all sizes.
"""

LAYER_NORM = '''
@triton.jit
def layer_norm(x_ptr, weight_ptr, bias_ptr, y_ptr, rows, dim, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    """Normalise each row of x; chunks are joined by Chan's update, which large means don't hurt."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, BLOCK)
    inside = row < rows
    mean = tl.zeros([ROWS], tl.float32)
    moment = tl.zeros([ROWS], tl.float32)
    for start in range(0, dim, BLOCK):
        seen = inside[:, None] & (start + column < dim)[None, :]
        x = tl.load(x_ptr + row[:, None] * dim + start + column[None, :], mask=seen, other=0.0)
        count = tl.minimum(dim - start, BLOCK)
        chunk = tl.sum(x, 1) / count
        centred = tl.where(seen, x - chunk[:, None], 0.0)
        delta = chunk - mean
        mean += delta * count / (start + count)
        moment += tl.sum(centred * centred, 1) + delta * delta * start * count / (start + count)
    scale = tl.rsqrt(moment / dim + 1e-5)
    for start in range(0, dim, BLOCK):
        valid = start + column < dim
        seen = inside[:, None] & valid[None, :]
        x = tl.load(x_ptr + row[:, None] * dim + start + column[None, :], mask=seen, other=0.0)
        weight = tl.load(weight_ptr + start + column, mask=valid, other=0.0)
        bias = tl.load(bias_ptr + start + column, mask=valid, other=0.0)
        y = (x - mean[:, None]) * scale[:, None] * weight[None, :] + bias[None, :]
        tl.store(y_ptr + row[:, None] * dim + start + column[None, :], y.to(y_ptr.dtype.element_ty), mask=seen)

'''

MOMENTS = '''
@triton.jit
def moments(x_ptr, row, inside, dim, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    """Mean and inverse deviation of each row; chunks are joined by Chan's update."""
    column = tl.arange(0, BLOCK)
    mean = tl.zeros([ROWS], tl.float32)
    moment = tl.zeros([ROWS], tl.float32)
    for start in range(0, dim, BLOCK):
        seen = inside[:, None] & (start + column < dim)[None, :]
        x = tl.load(x_ptr + row[:, None] * dim + start + column[None, :], mask=seen, other=0.0)
        count = tl.minimum(dim - start, BLOCK)
        chunk = tl.sum(x, 1) / count
        centred = tl.where(seen, x - chunk[:, None], 0.0)
        delta = chunk - mean
        mean += delta * count / (start + count)
        moment += tl.sum(centred * centred, 1) + delta * delta * start * count / (start + count)
    return mean, tl.rsqrt(moment / dim + 1e-5)

'''

NORMALISED_FUSED = """seen = inside[:, None] & valid[None, :]
        x = tl.load(x_ptr + row[:, None] * dim + start + depth[None, :], mask=seen, other=0.0)
        weight = tl.load(norm_weight_ptr + start + depth, mask=valid, other=0.0)
        bias = tl.load(norm_bias_ptr + start + depth, mask=valid, other=0.0)
        x = ((x - mean[:, None]) * scale[:, None] * weight[None, :] + bias[None, :]).to(w_ptr.dtype.element_ty)"""

NORMALISED_STORED = """seen = inside[:, None] & valid[None, :]
        x = tl.load(x_ptr + row[:, None] * dim + start + depth[None, :], mask=seen, other=0.0)"""

PROJECT_ALL = '''
@triton.jit
def project_all({head}mask_ptr, w_ptr, left_ptr, right_ptr, gate_ptr, n, blocks, dim, stride,
                HIDDEN: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr):
    """All five projections of one tile of rows: x is read once for the five."""
    column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    i = tl.program_id(1) // blocks
    k = tl.program_id(1) % blocks * ROWS + tl.arange(0, ROWS)
    batch = tl.program_id(2)
    inside = k < n
    row = (batch * n + i) * n + k
    depth = tl.arange(0, DEPTH)
{moments}    left = tl.zeros([ROWS, COLUMNS], tl.float32)
    left_gate = tl.zeros([ROWS, COLUMNS], tl.float32)
    right = tl.zeros([ROWS, COLUMNS], tl.float32)
    right_gate = tl.zeros([ROWS, COLUMNS], tl.float32)
    gate = tl.zeros([ROWS, COLUMNS], tl.float32)
    for start in range(0, dim, DEPTH):
        valid = start + depth < dim
        {normalised}
        w = w_ptr + column[None, :] * dim + start + depth[:, None]
        step = HIDDEN * dim
        left = tl.dot(x, tl.load(w, mask=valid[:, None], other=0.0), left{exact})
        left_gate = tl.dot(x, tl.load(w + step, mask=valid[:, None], other=0.0), left_gate{exact})
        right = tl.dot(x, tl.load(w + 2 * step, mask=valid[:, None], other=0.0), right{exact})
        right_gate = tl.dot(x, tl.load(w + 3 * step, mask=valid[:, None], other=0.0), right_gate{exact})
        gate = tl.dot(x, tl.load(w + 4 * step, mask=valid[:, None], other=0.0), gate{exact})
    masked = tl.load(mask_ptr + row, mask=inside, other=0.0)[:, None]
    left = left * tl.sigmoid(left_gate) * masked
    right = right * tl.sigmoid(right_gate) * masked
    {place}
    padded = (k < stride)[:, None]
    tl.store(left_ptr + place, left.to(left_ptr.dtype.element_ty), mask=padded)
    tl.store(right_ptr + place, right.to(right_ptr.dtype.element_ty), mask=padded)
    gate = tl.sigmoid(gate).to(gate_ptr.dtype.element_ty)
    tl.store(gate_ptr + row[:, None] * HIDDEN + column[None, :], gate, mask=inside[:, None])

'''

PROJECT_PAIR = '''
@triton.jit
def project_pair({head}mask_ptr, w_ptr, sides_ptr, n, blocks, dim, stride, side_size,
                 HIDDEN: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr):
    """Projection and gate of one side (0 left, 1 right) for one tile of rows."""
    columns = HIDDEN // COLUMNS
    side = tl.program_id(0) // columns
    column = tl.program_id(0) % columns * COLUMNS + tl.arange(0, COLUMNS)
    i = tl.program_id(1) // blocks
    k = tl.program_id(1) % blocks * ROWS + tl.arange(0, ROWS)
    batch = tl.program_id(2)
    inside = k < n
    row = (batch * n + i) * n + k
    depth = tl.arange(0, DEPTH)
{moments}    value = tl.zeros([ROWS, COLUMNS], tl.float32)
    gate = tl.zeros([ROWS, COLUMNS], tl.float32)
    for start in range(0, dim, DEPTH):
        valid = start + depth < dim
        {normalised}
        w = w_ptr + (2 * side * HIDDEN + column[None, :]) * dim + start + depth[:, None]
        value = tl.dot(x, tl.load(w, mask=valid[:, None], other=0.0), value{exact})
        gate = tl.dot(x, tl.load(w + HIDDEN * dim, mask=valid[:, None], other=0.0), gate{exact})
    masked = tl.load(mask_ptr + row, mask=inside, other=0.0)[:, None]
    value = value * tl.sigmoid(gate) * masked
    {place}
    value = value.to(sides_ptr.dtype.element_ty)
    tl.store(sides_ptr + side * side_size + place, value, mask=(k < stride)[:, None])


@triton.jit
def project_gate({head}w_ptr, gate_ptr, n, blocks, dim,
                 HIDDEN: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr):
    """The output gate for one tile of rows."""
    column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    i = tl.program_id(1) // blocks
    k = tl.program_id(1) % blocks * ROWS + tl.arange(0, ROWS)
    batch = tl.program_id(2)
    inside = k < n
    row = (batch * n + i) * n + k
    depth = tl.arange(0, DEPTH)
{moments}    gate = tl.zeros([ROWS, COLUMNS], tl.float32)
    for start in range(0, dim, DEPTH):
        valid = start + depth < dim
        {normalised}
        w = w_ptr + (4 * HIDDEN + column[None, :]) * dim + start + depth[:, None]
        gate = tl.dot(x, tl.load(w, mask=valid[:, None], other=0.0), gate{exact})
    gate = tl.sigmoid(gate).to(gate_ptr.dtype.element_ty)
    tl.store(gate_ptr + row[:, None] * HIDDEN + column[None, :], gate, mask=inside[:, None])

'''

TRIANGLE = '''
@triton.jit(do_not_specialize=["n", "group"])
def triangle(left_ptr, right_ptr, product_ptr, n, stride, group, channels,
             M: tl.constexpr, N: tl.constexpr, K: tl.constexpr):
    """One tile of product[i, j] = sum over k of left[i, k] * right[j, k], for one channel."""
    tiles_m = tl.cdiv(n, M)
    tiles_n = tl.cdiv(n, N)
    first = {tile} // (group * tiles_n) * group
    height = tl.minimum(tiles_m - first, group)
    i = (first + {tile} % (group * tiles_n) % height) * M + tl.arange(0, M)
    j = {tile} % (group * tiles_n) // height * N + tl.arange(0, N)
    k = tl.arange(0, K)
    {base}
    total = tl.zeros([M, N], tl.float32)
    for start in range(0, stride, K):
        valid = start + k < stride
        left = tl.load(left_ptr + base + (i[:, None] * stride + start + k[None, :]) * {step},
                       mask=(i < n)[:, None] & valid[None, :], other=0.0)
        right = tl.load(right_ptr + base + (j[None, :] * stride + start + k[:, None]) * {step},
                        mask=(j < n)[None, :] & valid[:, None], other=0.0)
        total = tl.dot(left, right, total{exact})
    tl.store(product_ptr + base + (i[:, None] * stride + j[None, :]) * {step},
             total.to(product_ptr.dtype.element_ty), mask=(i < n)[:, None] & (j < stride)[None, :])

'''

GATED = """i = tl.program_id(0) // blocks
    j = tl.program_id(0) % blocks * ROWS + tl.arange(0, ROWS)
    batch = tl.program_id(1)
    inside = j < n
    row = (batch * n + i) * n + j
    channel = tl.arange(0, HIDDEN)
    {place}
    x = tl.load(product_ptr + place, mask=(j < stride)[:, None], other=0.0).to(tl.float32)
    gate = tl.load(gate_ptr + row[:, None] * HIDDEN + channel[None, :], mask=inside[:, None], other=0.0)
    x -= (tl.sum(x, 1) / HIDDEN)[:, None]
    x *= tl.rsqrt(tl.sum(x * x, 1) / HIDDEN + 1e-5)[:, None]
    x = x * tl.load(weight_ptr + channel)[None, :] + tl.load(bias_ptr + channel)[None, :]
    x *= gate"""

FINISH = '''
@triton.jit
def finish(product_ptr, gate_ptr, weight_ptr, bias_ptr, w_ptr, out_ptr, n, blocks, dim, stride,
           HIDDEN: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """LayerNorm, gate and output projection of one tile of rows."""
    {gated}
    x = x.to(w_ptr.dtype.element_ty)
    for start in range(0, dim, COLUMNS):
        column = start + tl.arange(0, COLUMNS)
        w = tl.load(w_ptr + column[None, :] * HIDDEN + channel[:, None], mask=(column < dim)[None, :], other=0.0)
        tl.store(out_ptr + row[:, None] * dim + column[None, :], tl.dot(x, w{exact}),
                 mask=inside[:, None] & (column < dim)[None, :])

'''

GATE_NORM = '''
@triton.jit
def gated_norm(product_ptr, gate_ptr, weight_ptr, bias_ptr, y_ptr, n, blocks, stride,
               HIDDEN: tl.constexpr, ROWS: tl.constexpr):
    """LayerNorm over channels, times the gate, for one tile of rows."""
    {gated}
    tl.store(y_ptr + row[:, None] * HIDDEN + channel[None, :], x.to(y_ptr.dtype.element_ty), mask=inside[:, None])


@triton.jit
def project_out(y_ptr, w_ptr, out_ptr, rows, dim,
                HIDDEN: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr):
    """One tile of the output projection."""
    row = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    inside = (row < rows)[:, None]
    valid = (column < dim)[None, :]
    total = tl.zeros([ROWS, COLUMNS], tl.float32)
    for start in range(0, HIDDEN, DEPTH):
        depth = start + tl.arange(0, DEPTH)
        y = tl.load(y_ptr + row[:, None] * HIDDEN + depth[None, :], mask=inside, other=0.0)
        w = tl.load(w_ptr + column[None, :] * HIDDEN + depth[:, None], mask=valid, other=0.0)
        total = tl.dot(y, w, total{exact})
    tl.store(out_ptr + row[:, None] * dim + column[None, :], total, mask=inside & valid)

'''

HOST = '''
def custom_kernel(data):
    """Run the stages on the device that holds the input."""
    x, mask, weights, config = data
    batch, n, _, dim = x.shape
    hidden = config["hidden_dim"]
    rows, stride = batch * n * n, (n + 15) // 16 * 16
    x, mask = x.contiguous(), mask.to(torch.float32).contiguous()
    names = ("left_proj", "left_gate", "right_proj", "right_gate", "out_gate")
    w_in = torch.cat([weights[name + ".weight"] for name in names]).to({storage})
    w_out = weights["to_out.weight"].contiguous().to({storage})
    sides = torch.empty(2, batch * hidden * n * stride, dtype={storage}, device=x.device)
    gate = torch.empty(rows, hidden, dtype={storage}, device=x.device)
    product = torch.empty(batch * hidden * n * stride, dtype={storage}, device=x.device)
    out = torch.empty(batch, n, n, dim, dtype=torch.float32, device=x.device)
    norm = weights["norm.weight"], weights["norm.bias"]
    out_norm = weights["to_out_norm.weight"], weights["to_out_norm.bias"]
{launch}
    return out
'''
