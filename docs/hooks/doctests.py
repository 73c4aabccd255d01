"""Shows the doctests of docstrings as code: a griffe extension.

Docstrings here are in Keras's style: a line `Example:`, then doctests that are not indented.
Markdown would read `>>>` as quotes in quotes. Lists follow their sentence without a blank line.
"""

import re

try:
    from griffe import Extension
except ImportError:  # the tests of `fenced` need no griffe
    Extension = object

# From a prompt to the next blank line; what follows at once after a blank line goes with it.
DOCTEST = re.compile(r"^>>> .*(?:\n+(?:>>> |\.\.\. ).*|\n[^\n]+)*", re.MULTILINE)
OPTIONS = re.compile(r" *# doctest: .*$", re.MULTILINE)
TITLE = re.compile(r"^Examples?: *(.*)$", re.MULTILINE)


def fenced(docstring):
    """The docstring with its doctests in fences, `Example:` as a title, and lists as lists."""
    docstring = apart(docstring)
    docstring = DOCTEST.sub(lambda m: f"```pycon\n{OPTIONS.sub('', m[0])}\n```", docstring)
    return TITLE.sub(lambda m: f"**Example**\n\n{sentence(m[1])}".rstrip(), docstring)


def apart(docstring):
    """The docstring with a blank line before each list, without which Markdown sees none."""
    lines, item = [], None
    for line in docstring.split("\n"):
        indent = len(line) - len(line.lstrip())
        if line.lstrip().startswith("- "):
            if item is None and lines and lines[-1].strip():
                lines.append("")
            item = indent
        elif line.strip() and item is not None and indent <= item:
            item = None
        lines.append(line)
    return "\n".join(lines)


def sentence(text):
    """The text with a capital letter; a colon at its end stays."""
    return text[:1].upper() + text[1:]


class Doctests(Extension):
    """Rewrites docstrings before they are parsed."""

    def on_instance(self, *, obj, **kwargs):
        """For each class, function and module that is read."""
        if obj.docstring:
            obj.docstring.value = fenced(obj.docstring.value)
