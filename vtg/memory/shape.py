"""The sizes in a model's config that memory depends on."""

from dataclasses import dataclass
from typing import Any

from vtg.models.families import family_of


@dataclass(frozen=True)
class Recurrence:
    """Sizes of Gated DeltaNet layers: their number, heads, widths of a head, and tokens that the convolution sees."""

    layers: int
    key_heads: int
    value_heads: int
    key_width: int
    value_width: int
    kernel: int

    @property
    def mixed(self) -> int:
        """The width of queries, keys and values together, which the convolution runs over."""
        return 2 * self.key_heads * self.key_width + self.value_heads * self.value_width

    @property
    def keys(self) -> int:
        """The width of keys once each head of values has its own copy."""
        return self.value_heads * self.key_width

    @property
    def values(self) -> int:
        return self.value_heads * self.value_width

    @property
    def state(self) -> int:
        """Numbers of a sequence's recurrent state in one layer."""
        return self.value_heads * self.key_width * self.value_width


@dataclass(frozen=True)
class Experts:
    """A mixture in place of the MLP of so many layers: experts that there are and that a token is sent to, MLP widths
    of one and of the shared one (0: none)."""

    layers: int
    number: int
    chosen: int
    mlp: int
    shared: int


@dataclass(frozen=True)
class Pooling:
    """A projector that pools patches by attention, as Molmo2's: tower layers that it reads, its width, its MLP's."""

    features: int
    width: int
    mlp: int


@dataclass(frozen=True)
class Shape:
    """Sizes from a model's config: widths of the language model, `tower_`: of the vision tower.

    Attributes:
        mlp: of layers without experts; 0 where all have them.
        patches_per_token: patches of the tower that become one vision token.
        both_ways: vision tokens attend to later ones too, so that there is always a mask.
        recurrence: of the layers that are recurrent; the others have attention, which such models multiply by a gate.
    """

    hidden: int
    queries: int
    keys: int
    heads: int
    mlp: int
    layers: int
    vocabulary: int
    norms_queries: bool
    tied: bool
    tower: int
    tower_mlp: int
    tower_layers: int
    patch_numbers: int
    projections: int
    patches_per_token: int
    both_ways: bool = False
    pooling: Pooling | None = None
    recurrence: Recurrence | None = None
    experts: Experts | None = None

    @property
    def plain_mlps(self) -> int:
        """Layers with an MLP and no experts."""
        return self.layers - (self.experts.layers if self.experts else 0)

    @property
    def attention_layers(self) -> int:
        return self.layers - (self.recurrence.layers if self.recurrence else 0)

    @classmethod
    def of(cls, config: Any) -> "Shape":
        text, vision = config.text_config, config.vision_config
        # Qwen2.5-VL's config has no head_dim: there it is the hidden size by heads, in Qwen3-VL it is not.
        head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        family = family_of(config)
        experts = _experts(text)
        return cls(
            hidden=text.hidden_size,
            queries=text.num_attention_heads * head,
            keys=text.num_key_value_heads * head,
            heads=text.num_attention_heads,
            mlp=getattr(text, "intermediate_size", 0),
            layers=text.num_hidden_layers,
            vocabulary=text.vocab_size,
            norms_queries=family.norms_queries,
            tied=bool(config.tie_word_embeddings),
            tower=vision.hidden_size,
            tower_mlp=vision.intermediate_size * (2 if family.gated_tower else 1),
            # Molmo2's is named as in language models; its patches are of one frame.
            tower_layers=getattr(vision, "depth", None) or vision.num_hidden_layers,
            patch_numbers=3 * getattr(vision, "temporal_patch_size", 1) * vision.patch_size**2,
            projections=1 + len(getattr(vision, "deepstack_visual_indexes", None) or ()),
            patches_per_token=(family.token_cost.factor // vision.patch_size) ** 2,
            both_ways=family.both_ways,
            pooling=_pooling(getattr(config, "adapter_config", None)),
            recurrence=_recurrence(text) if family.recurrent else None,
            experts=experts,
        )


def _pooling(adapter: Any) -> Pooling | None:
    if adapter is None:
        return None
    return Pooling(len(adapter.vision_feature_layer), adapter.hidden_size, adapter.intermediate_size)


def _recurrence(text: Any) -> Recurrence:
    return Recurrence(
        layers=sum(kind == "linear_attention" for kind in text.layer_types),
        key_heads=text.linear_num_key_heads,
        value_heads=text.linear_num_value_heads,
        key_width=text.linear_key_head_dim,
        value_width=text.linear_value_head_dim,
        kernel=text.linear_conv_kernel_dim,
    )


def _experts(text: Any) -> Experts | None:
    number = getattr(text, "num_experts", None)
    if not number:
        return None
    layers = text.num_hidden_layers - len(getattr(text, "mlp_only_layers", None) or ())
    shared = getattr(text, "shared_expert_intermediate_size", 0)
    return Experts(layers, number, text.num_experts_per_tok, text.moe_intermediate_size, shared)
