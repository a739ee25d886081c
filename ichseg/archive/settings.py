"""Where the archive is and who asks, from the operator's environment alone."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from ichseg.errors import InputError

#: The address of the DICOMweb service, such as https://archive.example.org/dicom-web; without it the archive is off.
URL = "ICHSEG_DICOMWEB_URL"
#: A bearer token, or a user's name and password.
TOKEN, USER, PASSWORD = "ICHSEG_DICOMWEB_TOKEN", "ICHSEG_DICOMWEB_USER", "ICHSEG_DICOMWEB_PASSWORD"


@dataclass(frozen=True)
class Settings:
    """The archive's address, and what it knows us by: a token, a user with a password, or nothing."""

    url: str
    token: str = field(default="", repr=False)
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)


def is_configured() -> bool:
    """Whether the operator has named an archive."""
    return bool(os.environ.get(URL, "").strip())


def settings() -> Settings:
    """The archive that the environment names. Raises InputError where it names none, or not one that can be asked."""
    url = os.environ.get(URL, "").strip().rstrip("/")
    if not url:
        raise InputError(
            f"The archive is the one that {URL} names; it is not set; set it to the address of a DICOMweb service."
        )
    _check_url(url)
    token, user, password = (os.environ.get(name, "") for name in (TOKEN, USER, PASSWORD))
    if (token and (user or password)) or bool(user) != bool(password):
        raise InputError(
            f"An archive is asked with {TOKEN}, or with {USER} and {PASSWORD}; another mixture of them is set; set one "
            "or the other."
        )
    return Settings(url, token, user, password)


def _check_url(url: str) -> None:
    """Refuse an address that is none, or that has more in it; what it is, is not repeated: it may hold a password."""
    try:
        parts = urlsplit(url)
        fits = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        bare = not (parts.username or parts.password or parts.query or parts.fragment)
    except ValueError:
        fits = bare = False
    if not (fits and bare):
        raise InputError(
            f"{URL} is an address such as https://archive.example.org/dicom-web, without a name, a password or a query "
            "in it; it is another; correct it."
        )
