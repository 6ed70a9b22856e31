"""Text from elsewhere, made fit for a terminal or a log. Knows nothing but characters: gateway and SDK use it."""


def printable(text: str) -> str:
    """``text`` as one line that a terminal shows as it is: what is not printable (controls, escape sequences, what turns the
    direction of writing, halves of characters) is spelt out."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)
