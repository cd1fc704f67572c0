"""The stores of secrets that references may name, and whose keys SOPS may use. Without Django."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

ENV = "env"
SOPS = "sops"
# What authors may let `vals` ask, with the variables that hold the server's credentials for it. Not
# here: anything that reads the server's own files, environment or programs.
SCHEMES: Final[Mapping[str, tuple[str, ...]]] = {
    "awskms": ("AWS_",),
    "awssecrets": ("AWS_",),
    "awsssm": ("AWS_",),
    "azurekeyvault": ("AZURE_",),
    "bitwarden": ("BW_",),
    "bw": ("BW_",),
    "conjur": ("CONJUR_",),
    "doppler": ("DOPPLER_",),
    "gcpsecrets": ("GOOGLE_", "CLOUDSDK_"),
    "gcs": ("GOOGLE_", "CLOUDSDK_"),
    "gitlab": ("GITLAB_",),
    "gkms": ("GOOGLE_", "CLOUDSDK_"),
    "hcpvaultsecrets": ("HCP_",),
    "infisical": ("INFISICAL_",),
    "onepassword": ("OP_",),
    "onepasswordconnect": ("OP_",),
    "op": ("OP_",),
    "s3": ("AWS_",),
    "vault": ("VAULT_",),
}
# The kinds of keys in a file of SOPS: the fields that say which key it is, and its variables.
SOPS_KEYS: Final[Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "age": (("recipient",), ("SOPS_AGE_",)),
    "pgp": (("fp",), ("GNUPGHOME", "SOPS_GPG_")),
    "kms": (("arn",), ("AWS_",)),
    "gcp_kms": (("resource_id",), ("GOOGLE_", "CLOUDSDK_")),
    "azure_kv": (("vault_url", "name"), ("AZURE_",)),
    "hc_vault": (("vault_address", "engine_path", "key_name"), ("VAULT_",)),
}
LOCAL_KEYS: Final = frozenset({"age", "pgp"})  # of the server itself: nobody is asked
HARMLESS: Final = frozenset({"version", "version_id", "version_stage"})
_OPERATORS = re.compile(
    r"addr|auth|cert|cred|domain|endpoint|file|host|insecure|login|pass|profile|proto|role|secret"
    r"|ssl|tls|token|url|user|verify",
    re.IGNORECASE,
)


def is_operators(parameter: str) -> bool:
    """Whether the parameter of a reference is an address, a credential or a file: these come from
    the server's environment only."""
    return _OPERATORS.search(parameter) is not None
