"""URLs as people may see them."""

import re


def without_secrets(url: str) -> str:
    """The URL's scheme, host and path: users, passwords and queries, where keys are kept, are left out."""
    scheme, separator, rest = url.partition("://") if "://" in url else ("", "", url)
    return f"{scheme}{separator}{re.split('[?#]', rest, maxsplit=1)[0].rpartition('@')[2]}"
