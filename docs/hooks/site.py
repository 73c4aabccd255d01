"""What mkdocs does besides: pages of the API, links to them, and no page that needs a network.

`docs/api.md` lists every public name as `::: name`. Each gets a page of its own, the list becomes
a table of summaries, and code in the text of any page that is such a name links to its page.
"""

import html
import re
from pathlib import Path

import griffe
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

DOCS = Path(__file__).parent.parent
SECTION = re.compile(r"^## (.+)\n((?:(?!## ).*\n?)*)", re.MULTILINE)
ENTRY = re.compile(r"^::: (\S+)$", re.MULTILINE)
METHOD_ROW = re.compile(r"^\| \[([^\]]+)\]\((\S+\.md)\)[^|]*\|[^|]*\|([^|]*)\|", re.MULTILINE)
# Code in the text, and what surrounds code that has to stay as it is.
CODE = re.compile(
    r"<pre.*?</pre>|<a\s.*?</a>|<autoref\s.*?</autoref>|<h\d.*?</h\d>|<code>([^<]*)</code>",
    re.DOTALL,
)
# Classes with methods in bases that have no page of their own.
IN_PARTS = ("keras_lpl.LPLModel",)
# A long name may break between its words.
NAME = re.compile(r'(<span class="doc doc-object-name[^"]*">)(\w+)(?=</span>)')
HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=_)(?=\w)")
CALL = re.compile(r"(?:keras_lpl\.)?([\w.]+)(?:\(.*\))?$", re.DOTALL)
FOREIGN = re.compile(r'<(?:script|link|img)\b[^>]*(?:src|href)="(?:https?:)?//[^"]*"')


def sections():
    """The API as `{title: [identifier]}`."""
    found = SECTION.findall((DOCS / "api.md").read_text())
    return {title: ENTRY.findall(body) for title, body in found}


def place(title, identifier):
    """The path of an identifier's page."""
    return f"api/{title.split()[0].lower()}/{identifier.rsplit('.', 1)[1]}.md"


def method_pages():
    """The pages of methods that a public name belongs to: `{name: [(title, page)]}`."""
    pages = {}
    for title, page, classes in METHOD_ROW.findall((DOCS / "methods/index.md").read_text()):
        for name in re.findall(r"[A-Za-z_]\w*(?=[`(])", classes):
            pages.setdefault(name.rsplit(".", 1)[-1], []).append((title, page))
    return pages


def on_config(config):
    """Puts the pages of the API into the navigation."""
    tree = [
        {title: [{name.rsplit(".", 1)[1]: place(title, name)} for name in names]}
        for title, names in sections().items()
    ]
    for entry in config.nav:
        if entry.get("API") == "api.md":
            entry["API"] = ["api.md", *tree]
    return config


def on_files(files, config):
    """Makes a page for each name of the API."""
    of_methods = method_pages()
    for title, names in sections().items():
        for name in names:
            content = f"::: {full_path(the_package(config), name)}\n"
            if name in IN_PARTS:
                content += "    options: {inherited_members: true}\n"
            last = name.rsplit(".", 1)[1]
            pages = of_methods.get(last) or of_methods.get(f"{last}Loss") or []
            links = [f"[{method}](../../methods/{page})" for method, page in pages]
            if links:
                content += f"\n**The method**, its equation and its traps: {', '.join(links)}\n"
            files.append(File.generated(config, place(title, name), content=content))
    return files


def on_page_markdown(markdown, page, config, files):
    """Makes the list of the API a table for each section."""
    if page.file.src_uri != "api.md":
        return markdown
    package = the_package(config)
    for title, names in sections().items():
        rows = [
            f"| [`{name.removeprefix('keras_lpl.')}`]({place(title, name)}) | "
            f"{summary(package, name)} |"
            for name in names
        ]
        table = "\n".join(["| | |", "| --- | --- |", *rows, ""])
        first = markdown.index(f"::: {names[0]}")
        last = markdown.index(f"::: {names[-1]}\n") + len(f"::: {names[-1]}\n")
        markdown = markdown[:first] + table + markdown[last:]
    return markdown


def on_page_content(content, page, config, files):
    """Links code that is a public name, as `LDAMLoss` or `data.load(...)`, to its page."""
    known = public_names(config)

    def link(match):
        name = match[1] and CALL.match(html.unescape(match[1]))
        target = known.get(name[1]) if name else None
        if target is None:
            return match[0]
        return f'<autoref identifier="{target}">{match[0]}</autoref>'

    return NAME.sub(lambda m: m[1] + HUMP.sub("<wbr>", m[2]), CODE.sub(link, content))


def on_post_page(output, page, config):
    """Refuses what the reader's browser would fetch from elsewhere."""
    foreign = FOREIGN.search(output)
    if foreign:
        raise PluginError(f"{page.file.src_uri} needs the network: {foreign[0]}")
    return output


def the_package(config):
    """The package as griffe reads it, once."""
    if "keras_lpl" not in config.extra:
        root = Path(config.config_file_path).parent
        loader = griffe.GriffeLoader(search_paths=[str(root)])
        config.extra["keras_lpl"] = loader.load("keras_lpl")
        loader.resolve_aliases()
    return config.extra["keras_lpl"]


def full_path(package, name):
    """The identifier; for a function in a file of its name, that of the function."""
    item = package[name.removeprefix("keras_lpl.")]
    last = name.rsplit(".", 1)[1]
    return f"{name}.{last}" if item.is_module and last in item.members else name


def summary(package, name):
    """The first sentence of a docstring, on one line."""
    docstring = package[full_path(package, name).removeprefix("keras_lpl.")].docstring
    first = docstring.value.split("\n\n")[0] if docstring else ""
    return " ".join(first.split()).replace("|", "\\|")


def public_names(config):
    """What code in the text may be called, and the identifier that it is known by.

    Classes without their package, too; functions with it, as `load` is no more than a word.
    """
    package = the_package(config)
    names = {}
    for name in (name for names in sections().values() for name in names):
        short = name.removeprefix("keras_lpl.")
        identifier = full_path(package, name)
        entries = {short: identifier}
        item = package[short]
        if item.is_module and identifier == name:
            entries |= {f"{short}.{m}": f"{name}.{m}" for m in item.exports or item.members}
        for short, identifier in entries.items():
            names[short] = identifier
            last = short.rsplit(".", 1)[-1]
            if last[:1].isupper() or short.startswith("functional."):
                names.setdefault(last, identifier)
                names.setdefault(f"losses.{last}", identifier)
    return names
