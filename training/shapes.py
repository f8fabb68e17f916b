"""A transformer's shape: how many parameters it has, and how many an adapter on it has, counted from its matrices.

shape.parameters                                   # 116,829,156,672 for gpt-oss-120b
shape.attention_lora(rank=32)                      # 23,887,872
shape.mlp_lora(rank=32, layers=36)                 # 2,123,366,400: all experts
"""

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field


class Bias(StrEnum):
    """Which of the attention's four maps have a bias."""

    NONE = "none"
    QKV = "qkv"
    ALL = "all"


class ModelShape(BaseModel):
    """A decoder with grouped-query attention and gated feed-forward layers, dense or with experts."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str
    type: str
    """`model_type` of its config.json."""
    source: str
    """Where the numbers are from, and when."""
    layers: int = Field(ge=1)
    hidden: int = Field(ge=1)
    heads: int = Field(ge=1)
    kv_heads: int = Field(ge=1)
    head_dim: int = Field(ge=1)
    ffn: int = Field(ge=1)
    """Width of a feed-forward layer, of one expert where there are experts."""
    vocabulary: int = Field(ge=1)
    experts: int = Field(default=0, ge=0)
    """Of a layer; 0 for a dense model."""
    active_experts: int = Field(default=0, ge=0)
    attention_bias: Bias = Bias.NONE
    mlp_bias: bool = False
    """Of the experts' maps and of the router."""
    tied: bool = False
    """Whether one matrix reads and writes tokens."""
    served_gb: float | None = Field(default=None, gt=0)
    """Size of the weights as they are served, where that isn't bfloat16."""

    @property
    def query(self) -> int:
        """Width of all query heads."""
        return self.heads * self.head_dim

    @property
    def kv(self) -> int:
        """Width of all key heads, and of all value heads."""
        return self.kv_heads * self.head_dim

    @property
    def layer(self) -> int:
        """Parameters of one layer."""
        return self._shared + max(1, self.experts) * self._expert

    @property
    def parameters(self) -> int:
        """All of them, without attention sinks."""
        embeddings = self.vocabulary * self.hidden * (1 if self.tied else 2)
        return self.layers * self.layer + embeddings + self.hidden

    @property
    def active(self) -> int:
        """Those that a token passes through; reading its embedding costs nothing."""
        used = self.active_experts if self.experts else 1
        return self.layers * (self._shared + used * self._expert) + self.vocabulary * self.hidden + self.hidden

    @property
    def kv_bytes(self) -> int:
        """Bytes of a token in a bfloat16 cache, were every layer to look at the whole sequence."""
        return 2 * 2 * self.kv * self.layers

    def attention_lora(self, rank: int, layers: int | None = None) -> int:
        """Parameters of an adapter on the maps of query, key, value and output.

        Args:
            rank: of the adapter.
            layers: how many of the layers it is on; by default all.
        """
        maps = (self.hidden + self.query) + 2 * (self.hidden + self.kv) + (self.query + self.hidden)
        return rank * maps * (self.layers if layers is None else layers)

    def mlp_lora(self, rank: int, layers: int) -> int:
        """Parameters of an adapter on the feed-forward maps, of every expert of a layer.

        Experts keep gate and up in one matrix, a dense layer in two.

        Args:
            rank: of the adapter.
            layers: how many of the layers it is on.
        """
        into = (self.hidden + 2 * self.ffn) if self.experts else 2 * (self.hidden + self.ffn)
        return rank * max(1, self.experts) * (into + self.ffn + self.hidden) * layers

    @property
    def _shared(self) -> int:
        """Of a layer: attention, norms and router."""
        attention = 2 * self.hidden * self.query + 2 * self.hidden * self.kv + 2 * self.hidden
        if self.attention_bias is not Bias.NONE:
            attention += self.query + 2 * self.kv
        if self.attention_bias is Bias.ALL:
            attention += self.hidden
        return attention + self.experts * (self.hidden + self.mlp_bias)

    @property
    def _expert(self) -> int:
        return 3 * self.hidden * self.ffn + self.mlp_bias * (2 * self.ffn + self.hidden)
