"""Names from somewhere else, made harmless for terminals, files and pictures, and one of our own in files."""

LONGEST_NAME = 200
EXPORTED_FROM = "vramscope_exported_from"
"""The key that marks a snapshot file as an export, for the kind of device; PyTorch's memory_viz passes it over."""


def visible(name: str, encoding: str = "utf-8", longest: int | None = LONGEST_NAME) -> str:
    """A name from somewhere else, made harmless: what cannot be seen or encoded, or turns text around, is escaped.

    Control and bidirectional characters, lone surrogates and odd spaces become text like ``\\x1b``; of a very long name
    the middle is left out, so that with the words for it no more than ``longest`` characters stay.
    """
    if longest is not None and len(name) > longest:
        kept = longest - len(f"[{len(name)} more]")
        first, last = kept - kept // 2, kept // 2
        name = f"{name[:first]}[{len(name) - kept} more]{name[len(name) - last :]}"
    shown = name if name.isprintable() else "".join(map(_escaped, name))
    return shown.encode(encoding, "backslashreplace").decode(encoding)


def _escaped(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
