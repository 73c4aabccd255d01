"""Mistakes that users make, with what the error must say; and the page of them.

    python -m tests.mistakes            # writes docs/mistakes.md

`mistakes.txt` holds them, under headings: a line of code, and below it, indented, parts of the
message in their order, with `...` between them. A mistake of a new kind is two lines there.
"""

import dataclasses
import os
import re
import textwrap
import warnings
from pathlib import Path

import keras
import numpy as np

import keras_lpl

TABLE = Path(__file__).with_name("mistakes.txt")
PAGE = Path(__file__).parent.parent / "docs" / "mistakes.md"

HEAD = """# Mistakes, and what the error says

Each error names what was wrong, what was received, and what to do. The tested ones are here: search
this page for a part of yours.

Compiled code cannot look at values. There, a bad label makes the loss of its row NaN, and leaves
the model's weights and the rest of the batch as they would be without it: see
[bad input](first-steps.md#bad-input).

<!-- Made by `python -m tests.mistakes` from tests/mistakes.txt. -->

The code below runs after

```text
{setup}
```
"""

SETUP = """\
counts, labels, logits = [50, 30, 5], np.arange(8) % 3, np.zeros((8, 3), "float32")
x = np.ones((8, 4), "float32")
network = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)], name="network")
head = keras.layers.Dense(3, activation="softmax", name="head")
classifier = keras.Sequential([keras.Input((4,)), head])

class EmptyDataset(keras.utils.PyDataset):
    def __len__(self):
        return 0

empty_dataset = EmptyDataset()

def model(loss):
    inputs = keras.Input((4,))
    model = LPLModel(inputs, keras.layers.Dense(3, name="head")(inputs))
    model.compile("sgd", loss=loss)
    return model

def corrector(num_samples, loss=None):
    method = keras_lpl.models.MetaLabelCorrector(num_samples)
    model = keras_lpl.models.MetaModel.from_model(network, method=method, meta_data=(x, labels))
    model.compile("sgd", loss=loss or keras_lpl.PerturbedCrossentropy([]))
    return model"""


@dataclasses.dataclass(frozen=True)
class Mistake:
    """Code that must raise.

    Attributes:
        section: The heading it stands under.
        code: What somebody may write.
        says: Parts of the message, in their order.
    """

    section: str
    code: str
    says: tuple[str, ...]

    def is_said_by(self, message: str) -> bool:
        """True if the message has all parts in their order."""
        at = 0
        for part in self.says:
            at = message.find(part, at)
            if at < 0:
                return False
            at += len(part)
        return True


def read(text: str) -> list[Mistake]:
    """Mistakes of a table in the form of `mistakes.txt`."""
    mistakes, section, code = [], "", ""
    for line in text.splitlines():
        if line.startswith("## "):
            section = line.removeprefix("## ")
        elif line.startswith("    "):
            parts = tuple(part.strip() for part in line.strip().split("..."))
            mistakes.append(Mistake(section, code, parts))
            code = ""
        elif line.strip():
            assert not code, f"no message follows {code!r}"
            code = line.strip()
    assert not code, f"no message follows {code!r}"
    return mistakes


MISTAKES = read(TABLE.read_text())


def names() -> dict[str, object]:
    """What the code of a mistake may use."""
    found: dict[str, object] = {"np": np, "keras": keras, "keras_lpl": keras_lpl}
    found["data"] = keras_lpl.data
    for module in (keras_lpl.losses, keras_lpl.callbacks, keras_lpl):
        found |= {name: getattr(module, name) for name in module.__all__}
    exec(SETUP, found)
    return found


def raised_by(code: str) -> Exception | None:
    """The exception that code raises, or None."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            exec(code, names())
        except Exception as error:
            return error
    return None


def page() -> str:
    """The page of the documentation."""
    parts = [HEAD.format(setup=SETUP)]
    for section in dict.fromkeys(mistake.section for mistake in MISTAKES):
        entries = [entry(mistake) for mistake in MISTAKES if mistake.section == section]
        parts.append("\n".join([f"## {section}", "", "```text", *entries, "```", ""]))
    return "\n".join(parts)


def entry(mistake: Mistake) -> str:
    """A mistake and its error as Python shows them, without what differs between machines."""
    error = raised_by(mistake.code)
    message = re.sub(r" at 0x[0-9a-f]+", "", " ".join(str(error).split()))
    message = message.replace(os.getcwd(), "/home/you")
    shown = textwrap.fill(
        f"{type(error).__name__}: {message}",
        width=100,
        subsequent_indent="    ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    return f">>> {mistake.code}\n{shown}\n"


if __name__ == "__main__":
    PAGE.write_text(page())
