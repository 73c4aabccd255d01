"""Token tagging with padding: cross-entropy, logit adjustment and LPL, a label for each token.

    python examples/token_tagging.py
    python examples/token_tagging.py --seeds 5 --epochs 20

The sentences are made here. A few words are ambiguous: "common", but often "rare" after one of four
trigger words, one more often than another. Sentences are padded with 0;
`Embedding(mask_zero=True)` makes the mask by which Keras leaves padding out of every loss. Ends in
a table of recall and precision of the rare tag.
"""

import argparse

import quiet  # noqa: F401, before Keras

import keras
import numpy as np
from reporting import mean_and_spread, print_rows

import keras_lpl

WORDS = 60  # 0 is padding
AMBIGUOUS = range(1, 11)
TRIGGERS = {11: 0.2, 12: 0.4, 13: 0.6, 14: 0.8}  # how often "rare" follows
TAGS = ("other", "common", "rare")
LONGEST = 16


def write_sentences(number, seed):
    """Words and tags, `(number, LONGEST)`, both 0 where a sentence has ended."""
    rng = np.random.default_rng(seed)
    words = rng.integers(1, WORDS, (number, LONGEST))
    chance = np.zeros(words.shape)
    for word, share in TRIGGERS.items():
        chance[:, 1:][words[:, :-1] == word] = share
    is_rare = rng.random(words.shape) < chance
    tags = np.where(np.isin(words, AMBIGUOUS), np.where(is_rare, 2, 1), 0)
    is_padding = np.arange(LONGEST) >= rng.integers(4, LONGEST + 1, (number, 1))
    return np.where(is_padding, 0, words), np.where(is_padding, 0, tags)


def network():
    """Reads each sentence in both directions; the mask goes through to the loss."""
    inputs = keras.Input((LONGEST,), dtype="int32")
    x = keras.layers.Embedding(WORDS, 16, mask_zero=True)(inputs)
    x = keras.layers.Bidirectional(keras.layers.GRU(16, return_sequences=True))(x)
    return keras.Model(inputs, keras.layers.Dense(len(TAGS))(x))


def losses(counts):
    """The losses to compare. Keras's mask leaves the padding out of each."""
    return {
        "cross-entropy": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        "logit adjustment": keras_lpl.LogitAdjustmentLoss(counts),
        "LA+LPL": keras_lpl.LPLLoss(counts),
    }


def recall_and_precision(words, tags, logits):
    """Recall and precision of the rare tag, over the words of the sentences."""
    is_word = words > 0
    is_rare, is_found = tags[is_word] == 2, logits.argmax(axis=-1)[is_word] == 2
    right = (is_rare & is_found).sum()
    return right / is_rare.sum(), right / max(1, is_found.sum())


def main(arguments=None):
    """Trains, and returns recall and precision of each run: `{loss: (seeds, 2)}`."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sentences", type=int, default=800, help="for training (default: 800)")
    parser.add_argument("--epochs", type=int, default=8, help="of each run (default: 8)")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each loss (default: 3)")
    options = parser.parse_args(arguments)

    results = {}
    for seed in range(options.seeds):
        words, tags = write_sentences(options.sentences, seed)
        test_words, test_tags = write_sentences(500, 1000 + seed)
        counts = keras_lpl.data.class_counts(tags[words > 0], len(TAGS))
        for name, loss in losses(counts).items():
            keras.utils.set_random_seed(seed)
            model = network()
            model.compile(keras.optimizers.Adam(1e-2), loss=loss)
            model.fit(words, tags, batch_size=32, epochs=options.epochs, verbose=0)
            logits = model.predict(test_words, verbose=0)
            found = recall_and_precision(test_words, test_tags, logits)
            results.setdefault(name, []).append(found)
    results = {name: np.array(runs) for name, runs in results.items()}

    rows = [[name, *map(mean_and_spread, runs.T)] for name, runs in results.items()]
    share = ", ".join(f"{n} {c / counts.sum():.1%}" for n, c in zip(TAGS, counts, strict=True))
    print_rows(
        ["loss", "recall", "precision"],
        rows,
        f"Tags of the training words: {share}",
        'of the tag "rare", in %, over the test sentences',
    )
    return results


if __name__ == "__main__":
    main()
